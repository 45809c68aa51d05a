"""Explaining one image, end to end on a tiny run, against the whole model."""

import os
import shutil
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from lightning_sae.clip import splice
from lightning_sae.clip.sight import as_clip_sees, token_grid
from lightning_sae.concepts.significance import random_image_sets
from lightning_sae.data import BadImageError
from lightning_sae.explain.__main__ import main
from lightning_sae.explain.explanation import PromptExplanation, explain
from lightning_sae.explain.image_file import read_image
from lightning_sae.explain.picture import draw_explanation
from lightning_sae.explain.terminal import driver_table
from lightning_sae.metrics import auroc
from lightning_sae.runs.folder import open_run
from lightning_sae.world import World

ROOT = Path(__file__).parents[2]
PROMPTS = ["a photo of a star", "a photo of a heart", "umbrella"]
CLASSES = ["star", "heart", "umbrella"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def folder(small_run):
    return small_run


@pytest.fixture
def patches(small_patch_run):
    return small_patch_run


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "heart.png"
    World("biased", "test", 10).image(3).save(path)
    return path


def embedding(run, image, removed=None):
    """By the whole model, the latent `removed` taken out of its activation."""
    sae, clip = run.sae, run.data.clip

    def edit(x):
        if removed is None:
            return x
        dense = sae.encode(x.flatten(0, 1)).to_dense()
        return x - (dense[:, [removed]] @ sae.W_dec[[removed]]).view_as(x)

    with torch.no_grad(), splice(clip, run.data.hook, edit, error_term=False):
        return clip.encode_image(clip.preprocess(image)[None])[0]


@pytest.fixture(params=["folder", "patches"])
def run(request):
    return open_run(request.getfixturevalue(request.param))


@pytest.mark.parametrize("output", ["cosine", "logit", "probability"])
def test_scores_and_effects_are_those_of_the_model(run, image, output):
    picture = read_image(image)
    texts = run.data.clip.encode_text(PROMPTS)

    def scores(removed=None):
        cosines = texts @ embedding(run, picture, removed)
        logits = run.data.clip.logit_scale * cosines
        return {"cosine": cosines, "logit": logits, "probability": logits.softmax(0)}[output]

    whole = scores()
    for c, explanation in enumerate(explain(run, picture, PROMPTS, output, top=3)):
        assert explanation.prompt == PROMPTS[c]
        assert explanation.score == pytest.approx(float(whole[c]), rel=1e-4, abs=1e-5)
        for row in explanation.drivers.itertuples():
            expected = float(scores(row.latent)[c] - whole[c])
            assert row.effect == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_attributions_are_those_of_dense_autograd(run, image):
    picture, sae, data = read_image(image), run.sae, run.data
    (explanation,) = explain(run, picture, PROMPTS[:1], "cosine", top=5)
    kept = {}

    def through(x):
        kept["a"] = a = sae.encode(x.flatten(0, 1)).to_dense().detach().requires_grad_()
        error = x.flatten(0, 1) - (a @ sae.W_dec + sae.bias())
        return (a @ sae.W_dec + sae.bias() + error.detach()).view_as(x)

    with splice(data.clip, data.hook, through, error_term=False):
        e = data.clip.encode_image(data.clip.preprocess(picture)[None])[0]
    cosine = e @ data.clip.encode_text(PROMPTS[:1])[0]
    (gradient,) = torch.autograd.grad(cosine, kept["a"])
    by_token = (kept["a"] * gradient).detach()
    r = by_token.sum(0)
    chosen = r.abs().topk(min(5, int((r != 0).sum()))).indices
    expected = chosen[r[chosen].argsort(descending=True)]
    drivers = explanation.drivers
    assert drivers["latent"].tolist() == expected.tolist()
    assert drivers["attribution"].tolist() == pytest.approx(r[expected].tolist(), rel=1e-3, abs=1e-6)
    assert drivers["activation"].tolist() == pytest.approx(kept["a"].amax(0)[expected].tolist(), rel=1e-4)
    assert explanation.positive == pytest.approx(float(r.clamp(min=0).sum()), rel=1e-3)
    assert explanation.negative == pytest.approx(float(r.clamp(max=0).sum()), rel=1e-3)
    torch.testing.assert_close(explanation.tokens[0], by_token.sum(1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(explanation.tokens[1:], by_token[:, expected].T, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("own", [{}, {"level": 0.3, "draws": 200, "min_images": 3}])
def test_what_is_unexpected_means_the_prompt_no_better_than_random_images(folder, image, own):
    """And, where it names a class of which enough images are there, worse than images of the class."""
    run = open_run(folder)
    OmegaConf.update(run.config, "callbacks.reliance", {"draws": 1000, **own}, force_add=True)
    level, least = own.get("level", 0.01), own.get("min_images", 20)
    judge, e, data = run.data.judge, run.judge_embeddings(), run.data
    unexpected = 0
    for c, explanation in zip(CLASSES, explain(run, read_image(image), PROMPTS, top=8), strict=True):
        cosine = e @ judge.encode_text([explanation.prompt])[0]
        mine = data.images("val").targets == data.class_names.index(c)
        for row in explanation.drivers.itertuples():
            ids = run.top_images(row.latent)
            if not ids:
                assert not row.unexpected
                assert (row.label, row.named) == ("", False)
                continue
            agreement = float(cosine[ids].mean())
            assert row.prompt_alignment == pytest.approx(agreement, abs=1e-5)
            random = cosine[random_image_sets(len(e), len(ids), 2000, seed=9)].mean(1)
            p = float((random >= agreement).double().mean())
            if abs(p - level) > 0.05:  # else other draws can decide otherwise
                foreign = p > level
                if int(mine.sum()) >= least and float(auroc(cosine, mine)) >= 0.8:
                    alike = (e[mine] @ e[mine].T).topk(min(len(ids), int(mine.sum()))).indices
                    below = (cosine[mine][alike].mean(1) <= agreement + 1e-6).sum() + 1
                    foreign &= (
                        float(below) / (int(mine.sum()) + 1) <= max(level, 1 / (int(mine.sum()) + 1)) + 1e-9
                    )
                assert row.unexpected == (row.attribution > 0 and foreign)
                unexpected += row.unexpected
            assert row.label == run.latents.loc[row.latent, "label"]
            assert row.named == run.latents.loc[row.latent, "named"]
    assert unexpected > 0


def test_the_command_prints_tables_and_writes_a_picture(folder, image, capsys):
    main([str(folder), "--image", str(image), "--prompt", PROMPTS[0], "--prompt", PROMPTS[1], "--top", "2"])
    said = capsys.readouterr().out
    assert PROMPTS[0] in said
    assert PROMPTS[1] in said
    path = folder / "pictures" / "explain_heart.png"
    assert str(path) in said
    assert Image.open(path).size[1] > 400
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_table_fits_a_terminal_of_80_columns():
    row = {"latent": 12345, "label": "the word umbrella", "alignment": -0.1, "prompt_alignment": -0.1}
    row |= {"activation": 15.2, "attribution": -0.0123, "effect": -0.0123, "unexpected": False}
    drivers = pd.DataFrame([row | {"named": named} for named in (True, False)])
    found = PromptExplanation("star", 0.9, 0.1, -0.1, drivers, torch.zeros(2, 1))
    console = Console(width=80, record=True, file=StringIO())
    console.print(driver_table(found, "logit"))
    said = console.export_text()
    assert "…" not in said
    assert "12345 the word umbrella -0.10 " in " ".join(said.split())
    assert "12345 ? the word " in " ".join(said.split())
    assert {"alignment", "activation", "attribution", "effect"} <= set(said.split())


def test_the_picture_calls_latents_by_their_names(folder, image):
    run = open_run(folder)
    run.latents["named"] = run.latents.index % 2 == 0
    found = explain(run, read_image(image), PROMPTS[:1], top=6)
    (axes,) = draw_explanation(run, read_image(image), found, "logit").axes
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    drivers = found[0].drivers
    assert set(drivers["named"]) == {True, False}
    assert bold[1:] == [row.label if row.named else "?" for row in drivers.itertuples()]


def test_heatmaps_where_tokens_are_places(patches, image, tmp_path):
    main([str(patches), "--image", str(image), "--prompt", "star", "--out", str(tmp_path / "map.png")])
    wide = Image.open(tmp_path / "map.png").size[0]
    clip = open_run(patches).data.clip
    assert token_grid(clip, 25) == token_grid(clip, 26) == (5, 5)
    assert token_grid(clip, 1) is token_grid(clip, 7) is None
    assert wide > 1100  # a column more than without
    seen = as_clip_sees(clip, read_image(image))
    assert seen.size == clip.image_size


def test_a_store_that_moved_is_named_and_found_again(train_small, image, tmp_path):
    store = tmp_path / "old"
    folder = train_small("moved", f"data.store_dir={store}")
    shutil.move(store, tmp_path / "new")
    command = [str(folder), "--image", str(image), "--prompt", "star"]
    with pytest.raises(SystemExit, match=r"(?s)store of the run is not at .*data\.store_dir=DIR"):
        main(command)
    main([*command, f"data.store_dir={tmp_path / 'new'}"])
    assert (folder / "pictures" / "explain_heart.png").exists()


def test_a_run_that_is_not_whole(folder, image, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        open_run(tmp_path)
    for missing in ("sae", "latents.csv"):
        part = tmp_path / missing
        shutil.copytree(folder, part, ignore=shutil.ignore_patterns(missing))
        with pytest.raises(SystemExit, match=f"has no {missing}: "):
            main([str(part), "--image", str(image), "--prompt", "star"])


def test_another_clip_than_the_one_it_was_made_for(folder):
    balanced = "data.clip.pretrained.edition=balanced"
    with pytest.raises(ValueError, match="was made for another CLIP"):
        open_run(folder, [balanced])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no prompt"),
        (["--prompt", " "], "a prompt must hold words"),
        (["--prompt", os.fsdecode(b"a caf\xe9")], r"text in UTF-8, got 'a caf\\udce9'"),
        (["--prompt", "star", "--top", "0"], "must be at least 1, got 0"),
        (["--prompt", "star", "--output", "margin"], "compares classes"),
        (["--prompt", "star", "--image", "nowhere.png"], "there is no image nowhere.png"),
        (["--prompt", "star", "--image", str(ROOT / "README.md")], "README.md: not an image file"),
        (["--prompt", "star", "--image", str(ROOT)], ": a folder, not a file"),
    ],
)
def test_what_the_user_can_mend_ends_in_one_message(folder, image, words, message):
    with pytest.raises(SystemExit, match=message):
        main([str(folder), "--image", str(image), *words])


def test_a_damaged_image(image, tmp_path):
    (tmp_path / "half.png").write_bytes(image.read_bytes()[:300])
    with pytest.raises(BadImageError, match=r"half\.png: image file is truncated"):
        read_image(tmp_path / "half.png")


def test_an_image_that_is_a_bomb_or_a_pipe_is_refused_as_by_capture(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "bomb.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImageError, match=r"bomb\.png: Image size \(400 pixels\) exceeds limit"):
        read_image(tmp_path / "bomb.png")
    with pytest.raises(BadImageError, match=r"pipe\.png: a pipe, not a file"):
        read_image(tmp_path / "pipe.png")
