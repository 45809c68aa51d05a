"""Baselines on a short training: as if each were validated by itself, once, also across a resume."""

from functools import partial

import pandas as pd
import pytest
import scipy.stats
import torch
from lightning.pytorch import Trainer

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.baselines import Baselines
from callbacks.pairs import Pairs
from callbacks.quality import Quality
from callbacks.reliance import UnexpectedReliance
from callbacks.spatial import Spatial
from callbacks.truth import Truth
from lightning_sae.baselines.comparison import is_compared
from lightning_sae.baselines.dictionaries import DICTIONARIES
from lightning_sae.concepts.alignment import concept_vectors
from lightning_sae.pairs.counterfactuals import Counterfactuals
from lightning_sae.pairs.seen_pairs import see_pairs
from lightning_sae.sae import TopK
from lightning_sae.training.module import SAEModule

MIDDLE = ("visual.transformer.resblocks.1", "patch")


def baseline_values(run):
    logged = run.trainer.callback_metrics.items()
    return {key: float(value) for key, value in logged if key.startswith("baseline/")}


def alone(run, name, callbacks, folder):
    """What a validation of the baseline by itself logs."""
    sae = DICTIONARIES[name](run.module, run.data, run.module.sae.k)
    module = SAEModule(
        partial(TopK, d_sae=sae.d_sae, k=sae.k), 1e-3, warmup_steps=1, decay_fraction=0, top_n=5
    )
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", callbacks=callbacks, **quiet)
    module._trainer, run.data.trainer = trainer, trainer
    module.hparams["d_in"] = sae.d_in
    module.configure_model()
    module.sae.load_state_dict(sae.state_dict())
    (found,) = trainer.validate(module, datamodule=run.data, verbose=False)
    return {key: found[key] for key in found if is_compared(key) and key != "val/dead_fraction"}


def patch_callbacks():
    redrawn = {"redrawn": Counterfactuals(per_value=6)}
    return {"spatial": Spatial(), "pairs": Pairs(redrawn, min_pairs=6), "attribution": Attribution()}


@pytest.fixture(scope="module")
def middle(fit, tmp_path_factory):
    """A run on patches, and how often pairs were seen in it."""
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("callbacks.pairs.see_pairs", lambda *given: seen.append(given) or see_pairs(*given))
        callbacks = {**patch_callbacks(), "baselines": Baselines(["untrained", "neurons"])}
        return fit(tmp_path_factory.mktemp("middle"), callbacks, *MIDDLE), len(seen)


@pytest.mark.parametrize("name", ["untrained", "neurons", "components"])
def test_a_baseline_is_measured_as_if_it_were_validated_by_itself(run, callbacks, name, tmp_path):
    measuring = [callbacks[key] for key in ("alignment", "quality", "attribution", "spliced_accuracy")]
    truth, reliance = Truth(min_images=5, ks=[]), UnexpectedReliance(3, 0.1, 100, classes=0)
    expected = alone(run, name, [*measuring, truth, reliance], tmp_path)
    found = {key: value for key, value in baseline_values(run).items() if key.startswith(f"baseline/{name}/")}
    assert found.keys() == {f"baseline/{name}/{key}" for key in expected}
    assert found == pytest.approx(
        {f"baseline/{name}/{key}": value for key, value in expected.items()}, abs=1e-5, nan_ok=True
    )
    assert {"val/fvu", "alignment/named", "truth/auroc_class", "zero_shot/spliced"} <= set(expected)


@pytest.mark.parametrize("name", ["untrained", "neurons"])
def test_patch_tokens_are_encoded_as_well(middle, name, tmp_path):
    run, _ = middle
    expected = alone(run, name, [*patch_callbacks().values()], tmp_path)
    found = baseline_values(run)
    for key in ("val/fvu", "val/cosine", "attribution/error_share", "spatial/morans_i", "spatial/morans_z"):
        assert found[f"baseline/{name}/{key}"] == pytest.approx(expected[key], abs=1e-5)
    for key in ("response", "right_way", "selectivity", "specificity"):
        assert found[f"baseline/{name}/pairs/{key}"] == pytest.approx(expected[f"pairs/{key}"], abs=1e-4)
    errors = run.find(Baselines).measured[name].terms["val/fvu"].values
    assert float(errors.mean()) == pytest.approx(expected["val/fvu"], rel=1e-5)


def test_pairs_are_seen_once_and_belong_together(middle):
    run, times = middle
    assert times == 1
    measured = run.find(Baselines).measured["neurons"].terms
    assert measured["pairs/right_way"].paired
    assert not measured["spatial/morans_i"].paired
    table = pd.read_csv(run.folder / "baselines.csv").set_index(["key", "baseline"])
    pairs = pd.read_csv(run.folder / "pairs.csv").groupby(["factor", "value"], sort=False).first()
    mine, row = pairs["right_way"].to_numpy(), table.loc[("pairs/right_way", "neurons")]
    difference = mine - measured["pairs/right_way"].values.numpy()
    band = scipy.stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((band.low, band.high), abs=1e-6)


def test_labels_are_shuffled_over_the_latents(run):
    data, alignment = run.data, run.find(Alignment)
    words = alignment.embed(data)
    labels = [label for label in alignment.concepts.labels if label]
    units = torch.nn.functional.normalize(
        concept_vectors(run.module.top_images.compute()[1], data.judge_embeddings)
    )
    texts = words.texts[[words.labels.index(label) for label in labels]]
    scores = (units @ texts.T).mean(1) - units @ words.empty
    found = baseline_values(run)["baseline/shuffled/alignment/mean"]
    assert found == pytest.approx(float(scores.nanmean()), abs=1e-5)
    shuffled = {key for key in baseline_values(run) if "/shuffled/" in key}
    assert {key.rpartition("/")[2] for key in shuffled} == {
        "mean",
        "significant_share",
        "named",
        "named_share",
    }


def test_the_table_has_what_was_logged(run):
    table = pd.read_csv(run.folder / "baselines.csv")
    logged = run.trainer.callback_metrics
    for row in table.itertuples():
        assert row.trained == pytest.approx(float(logged[row.key]), abs=1e-5)
        assert row.baseline_value == pytest.approx(
            float(logged[f"baseline/{row.baseline}/{row.key}"]), abs=1e-5
        )
        if not pd.isna(row.tells):
            assert row.difference == pytest.approx(row.trained - row.baseline_value, abs=1e-4), row.key
            assert not row.low > row.difference
            assert not row.high < row.difference
    means = {"val/fvu", "val/cosine", "alignment/mean", "alignment/monosemanticity", "truth/auroc_class"}
    assert means <= set(table.loc[table["tells"].notna(), "key"])
    assert not {"val/l0", "zero_shot/original"} & set(table["key"])


def test_they_are_measured_once_also_across_a_resume(fit, tmp_path, monkeypatch):
    made = []
    for name, make in DICTIONARIES.items():
        monkeypatch.setitem(
            DICTIONARIES, name, lambda *given, n=name, make=make: made.append(n) or make(*given)
        )

    def callbacks():
        return {"quality": Quality(), "truth": Truth(min_images=5, ks=[]), "baselines": Baselines()}

    whole = fit(tmp_path / "whole", callbacks(), max_steps=8)
    assert made == ["untrained", "neurons", "components"]
    half = fit(tmp_path / "half", callbacks(), max_steps=4)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    rest = fit(tmp_path / "rest", callbacks(), max_steps=8, ckpt_path=tmp_path / "half.ckpt")
    assert len(made) == 6
    assert baseline_values(rest) == baseline_values(whole)
    tables = [(tmp_path / name / "baselines.csv").read_bytes() for name in ("whole", "rest")]
    assert tables[0] == tables[1]
    before = fit(tmp_path / "before", {"quality": Quality()}, max_steps=4)
    before.trainer.save_checkpoint(tmp_path / "before.ckpt")
    late = fit(tmp_path / "late", callbacks(), max_steps=8, ckpt_path=tmp_path / "before.ckpt")
    assert baseline_values(late) == pytest.approx(baseline_values(whole))  # the untrained one is made again


def test_a_callback_behind_it_that_measures_is_refused(fit, tmp_path):
    message = (
        r"callbacks\.baselines measures baselines by callbacks\.quality, which comes after it: list quality"
    )
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, {"baselines": Baselines(), "quality": Quality()})


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="dictionaries are of untrained, neurons, components; got random"):
        Baselines(["untrained", "random"])
    with pytest.raises(ValueError, match="confidence must be in"):
        Baselines(confidence=95)


def test_another_run_of_the_same_recipe_is_a_baseline(small_run, train_small):
    """The same in the run itself: its own numbers."""
    given = (f"+callbacks.baselines.runs.again={small_run}", "callbacks.baselines.dictionaries=[]")
    folder = train_small("beside", *given)
    table = pd.read_csv(folder / "baselines.csv").set_index(["baseline", "key"])
    assert table.loc["again", "difference"].abs().max() < 1e-6
    assert table.loc["again", "tells"].isna().all()
    assert ("again", "val/fvu") in table.index
    with pytest.raises(AssertionError, match=r"by another recipe: sae\.k 4 -> 2"):
        train_small("other", *given, "sae.k=2")
    with pytest.raises(AssertionError, match="has no values of a validation pass"):
        train_small("none", f"+callbacks.baselines.runs.none={folder / 'pictures'}")
