"""What the callbacks log and write, against plain formulas on the whole validation split."""

import math
from fnmatch import fnmatchcase

import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from callbacks.alignment import Alignment
from callbacks.attribution import Attribution
from lightning_sae.clip import HookPoint, splice
from lightning_sae.sae import load_sae


def validation(run):
    """All validation batches in one: activations and embeddings."""
    batches = list(run.data.val_dataloader())
    return torch.cat([b.x for b in batches]), torch.cat([b.embeddings for b in batches])


def pixels(run):
    images = run.data.images("val")
    return torch.stack([run.data.clip.preprocess(images[i]) for i in range(len(images))])


def dense_attribution(run, x, embeddings, output):
    """`[n, d_sae]` by autograd through the dense latents, to the score of the predicted class."""
    sae, data = run.module.sae, run.data
    x_hat, latents = sae(x)
    a = latents.to_dense().detach().requires_grad_()
    error = (x - x_hat).detach()
    e = data.tail((a @ sae.W_dec + sae.bias() + error)[:, None])
    logits = data.clip.logit_scale * e @ data.class_embeddings.T
    predicted = (embeddings @ data.class_embeddings.T).argmax(1)
    picked = torch.arange(len(x)), predicted
    if output == "margin":
        odds = logits.softmax(1)[picked]
        y = (odds / (1 - odds)).log()
    else:
        y = logits[picked]
    (gradient,) = torch.autograd.grad(y.sum(), a)
    return (a * gradient).detach(), predicted


def test_attribution_is_the_mean_of_dense_autograd(run):
    x, embeddings = validation(run)
    dense, predicted = dense_attribution(run, x, embeddings, "margin")
    means = run.find(Attribution).means
    for c in predicted.unique().tolist():
        torch.testing.assert_close(means.mean[c], dense[predicted == c].mean(0), rtol=1e-3, atol=1e-4)
    logged = run.trainer.callback_metrics
    positive = dense.clamp(min=0).sum(1).mean()
    torch.testing.assert_close(logged["attribution/positive_mass"], positive, rtol=1e-3, atol=1e-4)


def test_attributed_masses_sum_to_zero_at_the_last_block(run):
    logged = {key: float(value) for key, value in run.trainer.callback_metrics.items()}
    parts = [logged[f"attribution/{key}"] for key in ("positive_mass", "negative_mass", "bias", "error")]
    assert abs(sum(parts)) < 1e-2 * max(map(abs, parts))


def test_spliced_accuracy_is_that_of_the_model_with_the_sae_in_it(run):
    data, sae = run.data, run.module.sae
    truth = data.images("val").targets
    hook = HookPoint("visual.transformer.resblocks.3", "cls")
    for way, fn in {"original": lambda x: x, "spliced": lambda x: sae(x.flatten(0, 1))[0].view_as(x)}.items():
        with torch.no_grad(), splice(data.clip, hook, fn, error_term=False):
            embeddings = data.clip.encode_image(pixels(run))
        right = ((embeddings @ data.class_embeddings.T).argmax(1) == truth).float()
        logged = run.trainer.callback_metrics
        assert float(logged[f"zero_shot/{way}"]) == pytest.approx(right.mean().item(), abs=0.013)
    assert float(logged["zero_shot/original_worst"]) <= float(logged["zero_shot/original"])
    assert float(logged["zero_shot/original_colour"]) > 0.9  # the shipped CLIP knows its colours


def test_labels_are_the_texts_nearest_to_the_top_images(run):
    x, _ = validation(run)
    data, alignment = run.data, run.find(Alignment)
    activations = run.module.sae.encode(x).to_dense()
    words = data.images("val").vocabulary
    texts, empty = data.judge.encode_text(list(dict.fromkeys(words))), data.judge.encode_text([""])[0]
    j = int((activations > 0).sum(0).argmax())
    top = activations[:, j].topk(5).indices
    v = normalize(data.judge_embeddings[top].mean(0), dim=0)
    scores = texts @ v - empty @ v
    columns = alignment.latent_columns()
    assert columns["label"][j] == list(dict.fromkeys(words))[int(scores.argmax())]
    assert columns["alignment"][j] == pytest.approx(float(scores.max()), abs=1e-5)
    assert columns["judge_independent"][j]


def test_the_run_folder_holds_everything(run):
    table = pd.read_csv(run.folder / "latents.csv", keep_default_na=False)
    x, _ = validation(run)
    fired = (run.module.sae.encode(x).to_dense() > 0).double().mean(0)
    assert sorted(table["latent"]) == fired.nonzero().flatten().tolist()
    assert table.set_index("latent")["density"].to_dict() == pytest.approx(
        {j: float(fired[j]) for j in table["latent"]}, abs=1e-5
    )
    expected = {"label", "alignment", "margin", "clarity", "attribution", "attribution_class", "unexpected"}
    assert expected <= set(table)
    assert table["attribution"].is_monotonic_decreasing
    top = pd.read_csv(run.folder / "attribution.csv").groupby("class").size()
    assert top.max() <= 10
    culprits = pd.read_csv(run.folder / "reliance.csv")
    assert (culprits["told"] >= 0.8).all()  # other classes are not asked about
    names = table.set_index("latent")[["label", "named"]]
    for rows in (culprits, pd.read_csv(run.folder / "attribution.csv", keep_default_na=False)):
        assert (rows[["label", "named"]].to_numpy() == names.loc[rows["latent"]].to_numpy()).all()
    assert Image.open(run.folder / "pictures" / "gallery.png").size[0] > 500
    assert not list(run.folder.rglob("*.part"))


def test_the_saved_sae_reconstructs_alike(run):
    x, _ = validation(run)
    sae = load_sae(run.folder / "sae", clip=run.data.clip.identity())
    torch.testing.assert_close(sae(x)[0], run.module.sae(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tokens", ["cls", "patch"])
def test_a_middle_layer_is_attributed_on_the_probe(fit, tmp_path, tokens):
    attribution = Attribution(output="logit", over="true")
    run = fit(tmp_path, {"attribution": attribution}, "visual.transformer.resblocks.1", tokens)
    probe, sae, data = run.data.probe, run.module.sae, run.data
    n, t, d_in = probe.x.shape
    x_hat, latents = sae(probe.x.view(-1, d_in))
    a = latents.to_dense().detach().requires_grad_()
    error = (probe.x.view(-1, d_in) - x_hat).detach()
    e = data.tail((a @ sae.W_dec + sae.bias() + error).view(n, t, d_in), probe.context)
    y = data.clip.logit_scale * (e * data.class_embeddings[probe.targets]).sum()
    (gradient,) = torch.autograd.grad(y, a)
    dense = (a * gradient).detach().view(n, t, -1).sum(1)
    c = int(probe.targets[0])
    expected = dense[probe.targets == c].mean(0)
    torch.testing.assert_close(attribution.means.mean[c], expected, rtol=1e-3, atol=1e-3)
    assert int(attribution.means.counts.sum()) == n


def test_attribution_over_all_classes_counts_every_image_for_each(fit, tmp_path):
    attribution = Attribution(output="cosine", over="all")
    run = fit(tmp_path, {"attribution": attribution}, max_steps=4)
    assert attribution.means.counts.tolist() == [160] * len(run.data.class_names)


NAMES = (
    "alignment quality truth attribution spliced_accuracy reliance faithfulness "
    "gallery latent_table save_sae summary"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_each_callback_can_be_switched_off(fit, callbacks, tmp_path, name):
    del callbacks[name]
    if name in ("alignment", "attribution"):
        del callbacks["reliance"]  # which needs them
    run = fit(tmp_path, callbacks, max_steps=4)
    assert math.isfinite(run.trainer.callback_metrics["val/fvu"])
    missing = {
        "alignment": "alignment/mean",
        "attribution": "attribution/positive_mass",
        "spliced_accuracy": "zero_shot/spliced",
        "reliance": "attribution/unexpected_share",
    }
    assert missing.get(name) not in run.trainer.callback_metrics
    if name != "latent_table":
        columns = set(pd.read_csv(tmp_path / "latents.csv"))
        assert ("label" in columns) == (name != "alignment")
        assert ("attribution" in columns) == (name != "attribution")


def test_the_sanity_check_leaves_nothing(fit, callbacks, tmp_path):
    del callbacks["save_sae"]
    run = fit(tmp_path, callbacks, max_steps=0, num_sanity_val_steps=-1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "val/fvu" not in run.trainer.callback_metrics


def test_validate_gives_what_fit_gave(fit, callbacks, tmp_path):
    run = fit(tmp_path, callbacks)
    keys = [key for key in run.trainer.callback_metrics if not key.startswith("train/")]
    fitted = {key: float(run.trainer.callback_metrics[key]) for key in keys}
    tables = {
        name: (tmp_path / name).read_text() for name in ("latents.csv", "attribution.csv", "reliance.csv")
    }
    (validated,) = run.trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert validated == pytest.approx(fitted, nan_ok=True)
    assert tables == {name: (tmp_path / name).read_text() for name in tables}


@pytest.mark.parametrize("arguments", [{"output": "logits"}, {"over": "both"}])
def test_attribution_refuses_what_it_does_not_know(arguments):
    with pytest.raises(ValueError, match="must be one of"):
        Attribution(**arguments)


def test_what_is_logged_is_what_the_callbacks_say(run):
    parts = [run.module, *run.trainer.callbacks]
    patterns = [pattern for part in parts for pattern in vars(type(part)).get("logs", ())]
    logged = {*run.trainer.callback_metrics}
    assert {key for key in logged if not any(fnmatchcase(key, pattern) for pattern in patterns)} == set()
    not_here = {
        "val/fvu_layer_norm",
        "attribution/probe_agreement",
        "alignment/polysemanticity_semantic_lens",
    }
    assert {pattern for pattern in patterns if "*" not in pattern} - logged <= not_here
