"""The comparison of prompts and probes, against brute force on a short training."""

import math

import pandas as pd
import pytest
import torch
from PIL import Image

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from callbacks.probe_vs_prompt import MEASURES, ProbeVsPrompt
from callbacks.reliance import UnexpectedReliance
from callbacks.summary import Summary
from lightning_sae.attribution.reliance import unexpected_reliance
from lightning_sae.classifiers.comparison import ProbeComparison
from lightning_sae.classifiers.linear import fit_probe
from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics import auroc
from lightning_sae.metrics.accuracy import accuracy

SETTINGS = {"factor": "colour", "shares": [0.2, 1.0], "images_per_class": 2, "min_images": 3}


def made(comparison, **attribution):
    return {
        "alignment": Alignment(Vocabulary()),
        "attribution": Attribution(**attribution),
        "reliance": UnexpectedReliance(min_images=3, level=0.1, draws=50, classes=0),
        "probe_vs_prompt": comparison,
    }


@pytest.fixture(scope="module")
def run(fit, tmp_path_factory):
    comparison = ProbeVsPrompt(**SETTINGS, min_group=2)
    return fit(tmp_path_factory.mktemp("run"), made(comparison, output="logit"))


@pytest.fixture(scope="module")
def table(run):
    return pd.read_csv(run.folder / "probe_vs_prompt.csv")


def test_a_row_for_each_classifier(run, table):
    assert table["classifier"].tolist() == ["prompt", "probe_20", "probe_100"]
    assert table["share"].isna().tolist() == [True, False, False]
    assert table["train_images"].tolist()[0] == 0
    assert (table["train_images"][1:] <= 48).all()
    logged = run.trainer.callback_metrics
    for row in table.to_dict("records"):
        for measure in MEASURES:
            key = f"probe_vs_prompt/{row['classifier']}_{measure}"
            assert float(logged[key]) == pytest.approx(row[measure], rel=1e-4, nan_ok=True)


def test_the_prompts_by_hand(run, table):
    data, row = run.data, table.iloc[0]
    x = torch.cat([batch.x for batch in data.val_dataloader()])
    images = data.images("val")
    with torch.no_grad():
        a = run.module.sae.encode(x).to_dense()
    z, texts = x[:, None].clone().requires_grad_(), data.clip.logit_scale * data.class_embeddings
    logits = data.tail(z) @ texts.T
    predicted = logits.argmax(1)
    (g,) = torch.autograd.grad(logits.gather(1, predicted[:, None]).sum(), z)
    r = a * (g[:, 0] @ run.module.sae.W_dec.T).detach()
    counts = torch.bincount(predicted, minlength=24)
    mean = torch.stack([r[predicted == c].mean(0) for c in range(24)])
    reliance = run.find(UnexpectedReliance)
    found = unexpected_reliance(mean, counts, reliance.meaning.foreign, 3)
    assert row["unexpected_share"] == pytest.approx(float(found.overall), rel=1e-3)
    paired = run.find(ProbeVsPrompt)._paired
    judged = [c for c in range(24) if paired[c] >= 0 and counts[c] >= 3]
    assert int((paired >= 0).sum()) == 3
    values, truth = images.factors["colour"]
    shares = []
    for c in judged:
        tells = torch.tensor([float(auroc(column, truth == paired[c])) >= 0.9 for column in a.T])
        positive = mean[c].clamp(min=0)
        shares.append(float(positive[tells].sum() / positive.sum()))
    expected = sum(shares) / len(shares) if shares else math.nan
    assert row["culprit_share"] == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    assert row["accuracy"] == pytest.approx(accuracy(predicted, images.targets), abs=1e-5)
    groups = [
        float((predicted == images.targets)[(images.targets == c) & (truth == v)].double().mean())
        for c in range(24)
        for v in range(len(values))
        if int(((images.targets == c) & (truth == v)).sum()) >= 2
    ]
    assert row["worst_group"] == pytest.approx(min(groups))


def test_a_probe_is_fitted_on_the_biased_set(run, table):
    data, comparison = run.data, run.find(ProbeVsPrompt)
    images = data.images("val")
    folder = data.capture("val") / "images"
    e = read_tensor(folder, "embeddings").float()
    for row, (probe, n) in zip(table.iloc[1:].itertuples(), comparison._probes.values(), strict=True):
        predicted = (e @ probe.weight.T + probe.bias).argmax(1)
        assert row.accuracy == pytest.approx(accuracy(predicted, images.targets), abs=1e-5)
        assert n == row.train_images
        assert probe.weight.shape == fit_probe(torch.eye(24, e.shape[1]), torch.arange(24), 24).weight.shape


def test_the_picture_and_the_last_line(run, capsys):
    assert Image.open(run.folder / "pictures" / "probe_vs_prompt.png").size[0] > 1000
    sentence = run.find(ProbeVsPrompt).current[ProbeComparison].sentence()
    assert sentence.startswith("prompts, a probe at 20 %, one at 100 %: driven by the paired value ")
    summary = Summary()
    summary.current = run.find(ProbeVsPrompt).current
    summary.on_fit_end(run.trainer, run.module)
    said = capsys.readouterr().out.strip().splitlines()
    assert sentence in said[-2:]


def test_validate_gives_what_fit_gave(run, table):
    run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    pd.testing.assert_frame_equal(pd.read_csv(run.folder / "probe_vs_prompt.csv"), table)


def test_only_the_last_pass_is_measured(fit, tmp_path, monkeypatch):
    steps = []

    def finish(self, pass_):
        steps.append(pass_.trainer.global_step)
        return ProbeComparison(pd.DataFrame())

    monkeypatch.setattr(ProbeVsPrompt, "finish", finish)
    monkeypatch.setattr(ProbeVsPrompt, "report", lambda self, pass_: None)
    callbacks = made(ProbeVsPrompt(**SETTINGS, pairs={"star": "red"}))
    fit(tmp_path, callbacks, max_steps=6, val_check_interval=4, limit_val_batches=1)
    assert steps == [6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": {"unicorn": "red"}}, "pairs names .'unicorn'."),
        ({"pairs": {"star": "rainbow"}}, "pairs names .'rainbow'."),
        ({"factor": "weather"}, "compares by the factor 'weather', the images have class, colour"),
        ({"shares": [0.1]}, "must be in 1/V"),
        ({"images_per_class": 0}, "must be at least 1"),
        ({"shares": []}, "shares one or more"),
    ],
)
def test_what_cannot_be(fit, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, made(ProbeVsPrompt(**{**SETTINGS, **arguments})), max_steps=4)
