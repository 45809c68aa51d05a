"""Truth on a short training, against dense scikit-learn on the whole split."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from callbacks.alignment import Alignment
from callbacks.base import PassCallback
from callbacks.truth import Truth
from lightning_sae.concepts.absorption import absorption
from lightning_sae.concepts.families import family_factors
from lightning_sae.concepts.sparse_probes import sparse_probes
from lightning_sae.concepts.vocabulary import Vocabulary

FAMILIES = {"background": {"dark": ["black", "navy", "brown"], "light": ["gray", "white"]}}


class Listener(PassCallback):
    """A second callback that looks at the whole pass."""

    needs_latents = True

    def finish(self, pass_):
        self.latents, self.ids = pass_.latents


@pytest.fixture(scope="module")
def truth_run(fit, tmp_path_factory):
    found = {
        "alignment": Alignment(Vocabulary()),
        "truth": Truth(detected=0.7, min_images=5, ks=[1, 4], probe_every=1, families=FAMILIES),
        "listener": Listener(),
    }
    return fit(tmp_path_factory.mktemp("truth"), found, num_sanity_val_steps=1)


def dense_latents(run):
    x = torch.cat([batch.x for batch in run.data.val_dataloader()])
    return run.module.sae.encode(x).to_dense()


def test_every_row_of_the_table_is_the_best_detector(truth_run):
    dense = dense_latents(truth_run)
    table = pd.read_csv(truth_run.folder / "truth.csv", keep_default_na=False)
    factors = truth_run.data.images("val").factors
    factors = factors | family_factors(factors, FAMILIES)
    _, top_ids = truth_run.module.top_images.compute()
    names = truth_run.find(Alignment).concepts.names
    assert set(table["factor"]) == set(factors) - {"word"}  # printed on too few of these pictures
    for row in table[::6].itertuples():
        values, truth = factors[row.factor]
        positive = truth == values.index(row.value)
        aurocs = [roc_auc_score(positive, column) for column in dense.T.detach()]
        assert row.images == int(positive.sum()) >= 5
        assert row.auroc == pytest.approx(max(aurocs), abs=1e-5)
        assert aurocs[row.latent] == pytest.approx(max(aurocs))
        top = top_ids[row.latent]
        assert row.purity == pytest.approx(float(positive[top[top >= 0]].float().mean()), abs=1e-5)
        assert (row.label, row.named) == names[row.latent]


def test_the_log_is_the_mean_of_the_table(truth_run):
    table = pd.read_csv(truth_run.folder / "truth.csv")
    logged = truth_run.trainer.callback_metrics
    for factor, rows in table.groupby("factor"):
        assert float(logged[f"truth/auroc_{factor}"]) == pytest.approx(rows["auroc"].mean(), abs=1e-5)
        assert float(logged[f"truth/purity_{factor}"]) == pytest.approx(rows["purity"].mean(), abs=1e-5)
        assert float(logged[f"truth/detected_{factor}"]) == pytest.approx((rows["auroc"] >= 0.7).mean())


def test_probes_are_logged_per_number_of_latents(truth_run):
    latents = truth_run.module.sae.encode(torch.cat([b.x for b in truth_run.data.val_dataloader()]))
    values, truth = truth_run.data.images("val").factors["background"]
    want = np.nanmean(sparse_probes(latents, truth, len(values), [1, 4], min_images=3).accuracy, axis=0)
    logged = truth_run.trainer.callback_metrics
    found = [float(logged[f"truth/probe_{k}_background"]) for k in (1, 4)]
    assert found == pytest.approx(want.tolist(), abs=1e-6)


def test_one_callback_collects_for_all(truth_run):
    listener = truth_run.find(Listener)
    assert listener.ids.tolist() == list(range(160))
    torch.testing.assert_close(listener.latents.to_dense(), dense_latents(truth_run))
    assert listener.current is truth_run.find(Truth).current
    with pytest.raises(ValueError, match="no latents are collected"):
        _ = listener.current.latents


def test_tokens_of_an_image_are_one_row(fit, tmp_path):
    listener = Listener()
    run = fit(tmp_path, {"listener": listener}, "visual.transformer.resblocks.1", "patch", max_steps=4)
    batches = list(run.data.val_dataloader())
    dense = torch.cat([run.module.sae.encode(b.x).to_dense() for b in batches])
    torch.testing.assert_close(listener.latents.to_dense(), dense.view(160, -1, 96).amax(1))


def test_probes_come_every_so_often_and_at_the_end(fit, tmp_path):
    truth = Truth(min_images=5, ks=[1], probe_every=3)
    run = fit(tmp_path, {"truth": truth}, max_steps=20)
    rows = pd.read_csv(tmp_path / "metrics.csv").dropna(subset="truth/auroc_class")
    assert rows["truth/probe_1_class"].notna().tolist() == [False, False, True, False, True]
    assert truth.state_dict() == {"passes": 5}
    fitted = {k: float(v) for k, v in run.trainer.callback_metrics.items() if k.startswith("truth/")}
    (validated,) = run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert {key: validated[key] for key in fitted} == pytest.approx(fitted)


@pytest.mark.parametrize("arguments", [{"detected": 1.5}, {"min_images": 0}, {"ks": [0]}, {"probe_every": 0}])
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        Truth(**arguments)


def test_where_nothing_is_known_there_is_no_table(fit, tmp_path, monkeypatch):
    monkeypatch.setattr("callbacks.truth.known_factors", lambda images: {})
    run = fit(tmp_path, {"truth": Truth(ks=[1], probe_every=1)})
    assert run.find(Truth).table is None
    assert not (run.folder / "truth.csv").exists()


def test_absorption_and_splitting_are_those_of_the_whole_split(truth_run):
    batches = list(truth_run.data.val_dataloader())
    x, latents = (
        torch.cat([b.x for b in batches]),
        truth_run.module.sae.encode(torch.cat([b.x for b in batches])),
    )
    factors = truth_run.data.images("val").factors
    values, truth = family_factors(factors, FAMILIES)["background_family"]
    want = absorption(latents, truth_run.module.sae.W_dec, x, truth, len(values), min_images=3)
    table = pd.read_csv(truth_run.folder / "truth.csv").query("factor == 'background_family'")
    assert table["absorption"].tolist() == pytest.approx(want.share.tolist(), abs=1e-4)
    assert table["fully_absorbed"].tolist() == pytest.approx(want.full.tolist(), abs=0.02)
    logged = truth_run.trainer.callback_metrics
    assert float(logged["truth/absorption_background_family"]) == pytest.approx(table["absorption"].mean())
    assert float(logged["truth/splitting_background_family"]) == pytest.approx(table["splitting"].mean())
    assert set(table["splitting"]) <= {1, 4}


def test_families_that_the_data_lack_are_refused_before_a_training(truth_run):
    for families, word in {"shape": "known factor", "background": "has no value 'grey'"}.items():
        with pytest.raises(ValueError, match=word):
            Truth(families={families: {"light": ["grey"]}}).check(truth_run.data)
