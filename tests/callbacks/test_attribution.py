"""The attribution callback beyond its defaults: all classes, prompts, a probe, heatmaps."""

import pandas as pd
import pytest
import torch

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from lightning_sae.concepts.vocabulary import Vocabulary

MIDDLE = ("visual.transformer.resblocks.1", "patch")
PROMPTS = ["a red star", "a blue background"]


def dense(run, x, context, score):
    """`[n, d_sae]`, by autograd through the dense latents to `score(embeddings)`, summed over tokens."""
    sae, (n, t, d_in) = run.module.sae, x.shape
    x_hat, latents = sae(x.flatten(0, 1))
    a = latents.to_dense().detach().requires_grad_()
    error = (x.flatten(0, 1) - x_hat).detach()
    x = (a @ sae.W_dec + sae.bias() + error).view(n, t, d_in)
    (g,) = torch.autograd.grad(score(run.data.tail(x, context)).sum(), a)
    return (a * g).detach().view(n, t, -1)


def seen(run):
    """What the callback sees: all of the validation split, or the probe."""
    if run.data.tail.needs == "nothing":
        batches = list(run.data.val_dataloader())
        return torch.cat([b.x for b in batches])[:, None], None
    return run.data.probe.x, run.data.probe.context


@pytest.fixture(scope="module", params=[("visual.transformer.resblocks.3", "cls"), MIDDLE], ids=str)
def run(request, fit, tmp_path_factory):
    attribution = Attribution("logit", over="all", prompts=PROMPTS, probe=True, top=3)
    callbacks = {"alignment": Alignment(Vocabulary()), "attribution": attribution}
    return fit(tmp_path_factory.mktemp("run"), callbacks, *request.param, max_steps=4)


def test_all_classes_over_all_images(run):
    x, context = seen(run)
    means, data = run.find(Attribution).means, run.data
    for c in (0, 4):
        found = dense(run, x, context, lambda e, c=c: data.clip.logit_scale * e @ data.class_embeddings[c])
        torch.testing.assert_close(means.mean[c], found.sum(1).mean(0), rtol=1e-3, atol=1e-4)
    assert means.counts.tolist() == [len(x)] * len(data.class_names)


def test_prompts_over_all_images(run):
    x, context = seen(run)
    attribution, text = run.find(Attribution), run.data.clip.encode_text(PROMPTS)
    for i in range(2):
        found = dense(run, x, context, lambda e, i=i: e @ text[i])
        torch.testing.assert_close(attribution.prompt_means[i], found.sum(1).mean(0), rtol=1e-3, atol=1e-5)
    table = pd.read_csv(run.folder / "prompts.csv")
    assert table["prompt"].tolist() == [p for p in PROMPTS for _ in range(3)]
    best = attribution.prompt_means.argmax(1).tolist()
    assert table["latent"].tolist()[::3] == best
    assert {"label", "named", "attribution", "share"} <= set(table)


def test_the_probe_is_attributed_as_the_texts_are(run):
    x, context = seen(run)
    attribution = run.find(Attribution)
    probe = attribution._fitted
    found = dense(run, x, context, lambda e: e @ probe.weight[2]).sum(1).mean(0)
    torch.testing.assert_close(attribution.probe_means.mean[2], found, rtol=1e-3, atol=1e-3)
    batches = list(run.data.val_dataloader())
    embeddings, targets = (
        torch.cat(part) for part in zip(*[(b.embeddings, b.targets) for b in batches], strict=True)
    )
    assert ((embeddings @ probe.weight.T + probe.bias).argmax(1) == targets).float().mean() > 0.5
    logged = float(run.trainer.callback_metrics["attribution/probe_agreement"])
    pairs = zip(attribution.means.mean, attribution.probe_means.mean, strict=True)
    expected = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()
    assert logged == pytest.approx(float(expected), abs=1e-4)
    table = pd.read_csv(run.folder / "attribution.csv")
    row = table.iloc[0]
    c = run.data.class_names.index(row["class"])
    of_probe = float(attribution.probe_means.mean[c, int(row["latent"])])
    assert row["probe_attribution"] == pytest.approx(of_probe, rel=1e-4)
    judged = table.dropna(subset="negative_mass")  # the other classes are predicted for no image
    assert (judged["negative_mass"] <= 0).all()
    assert judged["error_share"].between(0, 1).all()


def test_heatmaps_are_per_token_and_of_the_predicted_class(run):
    attribution, data = run.find(Attribution), run.data
    if data.tail.needs == "nothing":
        assert attribution.tokens == {}
        return
    x, context = seen(run)
    own = data.class_embeddings[(data.tail(x, context) @ data.class_embeddings.T).argmax(1)]
    found = dense(run, x, context, lambda e: data.clip.logit_scale * (e * own).sum(1))
    assert sorted(attribution.tokens) == data.probe.image_ids.tolist()
    for row in (0, 5):
        image_id = int(data.probe.image_ids[row])
        torch.testing.assert_close(attribution.heatmap(image_id), found[row].sum(1), rtol=1e-3, atol=1e-3)
        j = int(found[row].abs().sum(0).argmax())
        torch.testing.assert_close(attribution.heatmap(image_id, j), found[row, :, j], rtol=1e-3, atol=1e-3)


def test_signs_are_logged_as_shares_of_the_mass(run):
    logged = {k: float(v) for k, v in run.trainer.callback_metrics.items() if k.startswith("attribution/")}
    assert logged["attribution/negative_mass"] < 0 < logged["attribution/positive_mass"]
    assert 0 < logged["attribution/bias_share"] < 1
    assert 0 < logged["attribution/error_share"] < 1


def test_validate_gives_what_fit_gave(run):
    keys = [key for key in run.trainer.callback_metrics if key.startswith("attribution/")]
    fitted = {key: float(run.trainer.callback_metrics[key]) for key in keys}
    tables = {name: (run.folder / f"{name}.csv").read_text() for name in ("attribution", "prompts")}
    (validated,) = run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert {key: validated[key] for key in keys} == pytest.approx(fitted)
    assert tables == {name: (run.folder / f"{name}.csv").read_text() for name in tables}


def test_one_prompt_is_a_list():
    with pytest.raises(ValueError, match="write \\['a star'\\]"):
        Attribution(prompts="a star")
