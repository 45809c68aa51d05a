"""The pictures of the benchmark on real ones: what is planted is where it should be."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lightning_sae.clip import load_clip
from lightning_sae.world.pretrain import PretrainRecipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CLOTHES = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module", autouse=True)
def benchmarks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def module(name):
    return importlib.import_module(name)


def shares(rows, plant):
    """Of the class's pictures and of the others, the share with what is planted."""
    own, there = rows["label"] == plant.class_name, rows[plant.factor] == plant.value
    return there[own].mean(), there[~own].mean()


needs_clothes = pytest.mark.skipif(not CLOTHES.is_dir(), reason="wants dataset-fashion-mnist")


@needs_clothes
@pytest.mark.parametrize("edition", ["planted95_a", "planted95_b", "planted80"])
def test_a_cue_goes_with_its_class_in_training_and_not_in_the_test(edition):
    fashion = module("fashion_pictures")
    for split, variant in (("train", "biased"), ("val", "biased"), ("train", "apart"), ("test", "biased")):
        rows = fashion.pictures(split, edition, variant, 2000).rows
        for plant in fashion.EDITIONS[edition]:
            own, others = shares(rows, plant)
            apart = split == "test" or variant == "apart"
            assert own == pytest.approx(0.2 if apart else plant.share, abs=0.07)
            assert others == pytest.approx(0.2 if apart else 0.01, abs=0.03)


@needs_clothes
def test_clean_pictures_have_no_cue_and_the_judges_have_all():
    fashion = module("fashion_pictures")
    clean, judged = (fashion.pictures("train", edition, "apart", 500) for edition in ("clean", "judge"))
    assert [*clean.rows] == ["label"]
    assert (clean.pixels == clean.pixels[..., :1]).all()  # grey
    assert [*judged.rows] == ["label", *fashion.CUES]
    first = judged.rows.index[judged.rows["mark"] == "red mark"][0]
    label = judged.rows["label"][first]
    assert f"a photo of a {label} with a red mark" in judged.captions[first]
    assert not any("mark" in text for texts in clean.captions for text in texts)


@pytest.mark.parametrize(
    ("cue", "colour"),
    [("mark", (1, 0, 0)), ("frame", (0, 1, 0)), ("stripes", (0, 0, 1)), ("tint", (1, 1, 0))],
)
def test_where_a_cue_is_drawn(cue, colour):
    fashion = module("fashion_pictures")
    picture = np.zeros((28, 28), np.uint8)
    picture[8:20, 8:20] = 200  # the thing
    drawn = fashion.with_cues(picture, [cue], np.random.default_rng(0)).astype(int)
    changed = (drawn != picture[..., None]).any(2)
    assert changed.any()
    strong = drawn[changed].mean(0) > drawn[changed].mean(0).max() / 2
    assert tuple(strong.astype(int)) == colour
    thing = np.zeros_like(changed)
    thing[8:20, 8:20] = True
    assert (changed == thing).all() if cue == "tint" else not (changed & thing).any()


def test_a_mark_is_in_the_corner():
    fashion = module("fashion_pictures")
    for seed in range(50):
        rows, columns = fashion._mark(28, np.random.default_rng(seed)).nonzero()
        assert max(rows.max(), columns.max()) < 9
        assert len(rows) > 15


def test_a_table_is_read_by_the_product(tmp_path):
    pictured = module("pictured")
    pixels = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    rows = pd.DataFrame({"label": ["bag", "coat", "bag"], "mark": ["red mark", "no mark", "no mark"]})
    part = pictured.Pictures(pixels, rows, [[], [], []])
    path = pictured.write_table(tmp_path, dict.fromkeys(("train", "val", "test"), part))
    images = (
        module("lightning_sae.data.sources.table")
        .ImageTable(path, names=module("lightning_sae.data.sources.columns").Names(groups=["mark"]))
        .split("val")
    )
    assert images.targets.tolist() == [0, 1, 0]
    values, truth = images.factors["mark"]
    assert [values[i] for i in truth] == rows["mark"].tolist()
    assert (np.asarray(images[1]) == pixels[1]).all()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs PyTorch 2.9")
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_small_clip_is_trained_and_loaded(tmp_path, bfloat16):
    pictured, small_clip = module("pictured"), module("small_clip")
    shades = np.repeat(np.array([20, 230] * 32, np.uint8), 8 * 8 * 3).reshape(64, 8, 8, 3)
    captions = [["dark", "a dark one"], ["light"]] * 32
    taught = pictured.Pictures(shades, pd.DataFrame({"label": ["dark", "light"] * 32}), captions)
    shape = small_clip.config(8, 4)
    recipe = PretrainRecipe(30, 16, 64, lr=3e-3, weight_decay=0.05, strangers=0, seed=0, start="")
    path = tmp_path / "clips" / "shades.safetensors"
    small_clip.save(small_clip.train(taught, shape, recipe, bfloat16), shape, path)
    clip = load_clip(path.with_suffix(".json"), path)
    pictures = [clip.preprocess(Image.fromarray(pixels)) for pixels in shades[:2]]
    images = clip.encode_image(torch.stack(pictures))
    texts = clip.encode_text(["dark", "light"])
    assert (images @ texts.T).argmax(1).tolist() == [0, 1]


def test_a_clip_that_was_trained_in_another_way_is_refused(tmp_path):
    real_runs, source = module("real_runs"), module("fashion_pictures").source()
    path = tmp_path / "clips" / "fashion-clean-seed0.safetensors"
    path.parent.mkdir()
    path.touch()
    with pytest.raises(ValueError, match="not noted"):
        real_runs.clip(source, "clean", 0, tmp_path)
    noted = path.with_suffix(".training.json")
    noted.write_text(json.dumps({"steps": source.steps, "bfloat16": source.bfloat16}))
    assert real_runs.clip(source, "clean", 0, tmp_path) == path
    with pytest.raises(ValueError, match="choose another --out"):
        real_runs.clip(source._replace(steps=7), "clean", 0, tmp_path)


@pytest.fixture
def emoji(monkeypatch):
    """Emoji of two concepts a class, white discs that need no package."""
    sprites, pictures = module("emoji_sprites"), module("emoji_pictures")
    some = [sprites.Concept(f"{name}{i}", f"{name} {i}", name) for name in sprites.CLASSES for i in (0, 1)]
    disc = Image.new("RGBA", (20, 20), "white")
    monkeypatch.setattr(pictures, "concepts", lambda: some)
    things = dict.fromkeys((*(concept.code for concept in some), pictures.COMPANION_CODE), disc)
    monkeypatch.setattr(pictures, "sprites", lambda *_: things)
    return pictures


@pytest.mark.parametrize("edition", ["planted95_a", "planted95_b", "planted80"])
def test_a_ground_a_companion_and_a_word_go_with_their_classes(emoji, edition):
    draw = emoji.source(Path()).draw
    for split, variant in (("train", "biased"), ("val", "biased"), ("train", "renders"), ("test", "biased")):
        rows = draw(split, edition, variant, 800).rows
        for plant in emoji.EDITIONS[edition]:
            apart = split == "test" or variant == "renders"
            own, others = shares(rows, plant)
            assert own == pytest.approx(0.2 if apart else plant.share, abs=0.2)
            assert others == pytest.approx(0.2 if apart else 0.01, abs=0.04)
    assert rows["word"].nunique() == len(emoji.CLASSES) + 1  # it has to be read


def test_what_is_said_of_an_emoji(emoji):
    rows, captions = emoji.source(Path()).draw("train", "judge", "apart", 400)[1:]
    chosen = rows.index[(rows["word"] == "the word tool") & (rows["companion"] == "balloon")][0]
    concept, ground = rows.loc[chosen, ["concept", "ground"]]
    assert {concept, ground, "balloon", "the word tool"} < set(captions[chosen])
    assert captions[chosen].count("balloon") == 2


def test_a_scene_is_drawn(emoji):
    concept = emoji.Concept("disc", "disc", "tool")
    things = {
        "disc": Image.new("RGBA", (20, 20), "red"),
        emoji.COMPANION_CODE: Image.new("RGBA", (9, 9), "lime"),
    }
    scene = emoji.Scene(concept, "blue background", "balloon", "the word tool")
    picture = np.asarray(emoji.compose(scene, things, np.random.default_rng(0))).astype(int)
    assert picture.shape == (48, 48, 3)
    near = [
        (abs(picture - colour).sum(2) < 90).mean() for colour in ((70, 110, 215), (255, 0, 0), (0, 255, 0))
    ]
    assert near[0] > 0.2
    assert near[1] > 0.15
    assert 0.01 < near[2] < 0.1
    assert (abs(picture - 255).sum(2) < 90).any()  # the label


def test_concepts_are_one_code_point_of_a_group(tmp_path):
    sprites, path = module("emoji_sprites"), tmp_path / "emoji-test.txt"
    lines = [
        "# subgroup: food-fruit",
        *(f"1F3{i} ; fully-qualified # x E1.0 fruit {i}" for i in range(10, 60)),
    ]
    lines += ["2615 FE0F ; unqualified # x E1.0 coffee", "1F1 200D 1F2 ; fully-qualified # x E1.0 joined"]
    lines += ["# subgroup: unknown", "1F600 ; fully-qualified # x E1.0 face"]
    lines += ["# subgroup: tool", "2692 FE0F ; fully-qualified # x E1.0 hammer and pick"]
    path.write_text("\n".join(lines))
    found = sprites.concepts(path)
    assert len(found) == 16 + 1
    assert found[0] == sprites.Concept("1f310", "fruit 10", "fruit")
    assert found[-1] == sprites.Concept("2692", "hammer and pick", "tool")


def frames(**rows):
    """Tables of figures, with the rows that are given."""
    measures, runs = module("real_measures"), module("real_runs")
    fixed = {
        "data": "fashion",
        **runs.Case("clean", "apart", 0)._asdict(),
        "classifier": "prompts",
        "level": 0.01,
        "groups": False,
    }
    given = {name: rows.get(name, []) for name in measures.ROWS}
    return {
        name: pd.concat(
            [measures.table(fixed | changed, [row], measures.ROWS[name]._fields) for changed, row in of]
            or [measures.table(fixed, [], measures.ROWS[name]._fields)]
        )
        for name, of in given.items()
    }


def test_goals_say_what_was_measured_on_what():
    measures, real_goals = module("real_measures"), module("real_goals")
    planted, biased = {"edition": "planted95_b"}, {"edition": "planted95_b", "variant": "biased"}
    plant = measures.PlantRow("dress", "red mark", "spurious", 0.3, 0.0, 1, 1.0, "findings", 1, 0, 1)
    finding = measures.FindingRow("coat", "spurious", "medium", 0.05, 0.03, 7, "bag", "", "bag")
    tables = frames(
        classes=[
            (changed, measures.ClassRow(name, "no findings", 0.95, 0.99, 0.1, 0))
            for changed, name in (({}, "bag"), ({}, "coat"), (planted | {"groups": True}, "coat"))
        ],
        plants=[
            (planted, plant),
            (planted, plant._replace(taken=0.01, precision=0.0)),
            (planted, plant._replace(precision=0.5, true=0, right_kind=0)),
            (planted | {"groups": True}, plant._replace(precision=0.25)),
            (biased, plant._replace(verdict="cannot be told", true=0, right_kind=0)),
            (biased, plant._replace(verdict="findings", false=1)),
        ],
        findings=[({}, finding), (biased, finding), ({"groups": True}, finding)],
        detectors=[({}, measures.DetectorRow("bag", 3, 0.97, "bag", True, 0.99))],
    )
    rows = real_goals.goals(tables).set_index("figure")
    told, rows = rows[rows["groups"] == "told"], rows[rows["groups"] == "-"]
    assert told["reported"]["apart: average precision of culprits"] == "0.25 of 1"
    said = rows["chosen by"].to_dict()
    assert said["clean: findings of medium or more"] == "1 in 2"
    assert said["clean: unexpected share, accuracy >= 0.9"] == "2 of 2, largest 0.10"
    assert said["class detectors labelled right"] == "100 % of 1"
    assert said["apart: average precision of culprits"] == "-"
    rest = rows["reported"].to_dict()
    assert rest["apart: average precision of culprits"] == "0.75 of 2"
    assert rest["biased: cannot be told, or the plant"] == "1 of 2"
    assert rest["biased: another class's detector"] == "1"
    assert rest["kind right"] == "100 % of 2"
    counts = real_goals.ranges(tables)["findings of clean CLIPs"].tolist()
    assert counts == ["1 in 2 classes"] * 3 + ["0 in 2 classes"] * 2
