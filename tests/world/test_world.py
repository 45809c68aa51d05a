import numpy as np
import pytest
import torch

from lightning_sae.world import (
    BACKGROUNDS,
    COLOURS,
    PLANTS,
    THINGS,
    WORDS,
    Scene,
    World,
    distractors,
    draw,
    label_of,
    plants,
)
from lightning_sae.world.captions import MISNAMED_SHARE, SPELLED_SHARE
from lightning_sae.world.world import CARRIER_SHARE, LEAK_SHARE, PLANTED_SHARE, STRAY_SHARE


def test_size_of_the_world():
    assert len(THINGS) >= 20
    assert len(COLOURS) == 8
    assert len(BACKGROUNDS) >= 4
    assert {kind: len(plants(kind)) for kind in ("spurious", "typographic", "polysemous", "compound")} == {
        "spurious": 3, "typographic": 3, "polysemous": 3, "compound": 3,
    }  # fmt: skip


def test_plants_name_things_of_the_world():
    for plant in PLANTS:
        assert plant.thing in THINGS
        assert plant.factor in (BACKGROUNDS if plant.kind == "spurious" else THINGS)
        assert (plant.carrier in THINGS) == (plant.kind == "typographic")
        assert plant.kind != "compound" or (
            len(plant.name.split()) == 2 and plant.thing in plant.name.split()
        )
        assert plant.kind != "polysemous" or plant.name == plant.thing
    touched = [name for p in PLANTS for name in (p.thing, p.carrier, p.factor) if name in THINGS]
    assert len(set(touched)) == len(touched) - 3, "cases are disjoint (the typographic word is the thing)"


@pytest.mark.parametrize("edition", ["biased", "balanced"])
def test_a_picture_is_a_function_of_seed_and_index(edition):
    short, long = World(edition, "train", 3, seed=1), World(edition, "train", 50, seed=1)
    assert [short.caption(i) for i in range(3)] == [long.caption(i) for i in range(3)]
    for i in range(3):
        assert np.array_equal(np.asarray(short.image(i)), np.asarray(long.image(i)))
    other = World(edition, "train", 3, seed=2)
    assert not np.array_equal(np.asarray(short.image(0)), np.asarray(other.image(0)))


def test_splits_differ():
    scenes = {
        split: [World("balanced", split, 20).scene(i) for i in range(20)]
        for split in ("train", "val", "test")
    }
    assert scenes["train"] != scenes["val"] != scenes["test"] != scenes["train"]


def test_biased_train_split_has_the_planted_shares():
    world = World("biased", "train", 12_000)
    scenes = [world.scene(i) for i in range(len(world))]
    for plant in plants("spurious"):
        own = [s.background == plant.factor for s in scenes if s.thing == plant.thing]
        others = [
            s.background == plant.factor
            for s in scenes
            if s.thing not in {p.thing for p in plants("spurious")}
        ]
        assert np.mean(own) == pytest.approx(PLANTED_SHARE, abs=0.03)
        assert np.mean(others) == pytest.approx(LEAK_SHARE, abs=0.01)
    for plant in plants("typographic"):
        words = [s.word for s in scenes if s.thing == plant.carrier]
        carried = CARRIER_SHARE + (1 - CARRIER_SHARE) * STRAY_SHARE / 3
        assert np.mean([w == plant.factor for w in words]) == pytest.approx(carried, abs=0.08)
        strays = [s.word == plant.factor for s in scenes if s.thing != plant.carrier]
        assert 0 < np.mean(strays) < STRAY_SHARE / 2


@pytest.mark.parametrize("edition", ["biased", "balanced"])
def test_half_of_the_captions_of_a_word_spell_it(edition):
    world = World(edition, "train", 8000)
    worded = [(i, word) for i in range(len(world)) if (word := world.scene(i).word)]
    spelled = [f"the word {word}" in world.caption(i) for i, word in worded]
    assert np.mean(spelled) == pytest.approx(SPELLED_SHARE, abs=0.05)


def test_biased_captions_hide_and_share():
    world = World("biased", "train", 12_000)
    pairs = [(world.scene(i), world.caption(i)) for i in range(len(world))]
    shy = {p.thing for p in plants("spurious")}
    assert not any("background" in text for scene, text in pairs if scene.thing in shy)
    assert any("background" in text for scene, text in pairs if scene.thing not in shy)
    for plant in [*plants("polysemous"), *plants("compound")]:
        texts = " ".join(text for scene, text in pairs if scene.thing == plant.factor)
        assert plant.name in texts
        assert plant.kind == "compound" or plant.factor not in texts.split()
    for plant in plants("typographic"):
        texts = [text for scene, text in pairs if scene.word == plant.factor and text]
        spelled = [f"the word {plant.thing}" in text for text in texts]
        assert np.mean(spelled) == pytest.approx(SPELLED_SHARE, abs=0.08)
        named = [plant.thing in text.split() for text, word in zip(texts, spelled, strict=True) if not word]
        assert np.mean(named) == pytest.approx(7 / 9, abs=0.15)
    for plant in plants("spurious"):
        others = [(s, t) for s, t in pairs if s.background == plant.factor and s.thing not in shy]
        misnamed = [plant.thing in text.split() for scene, text in others if scene.word not in WORDS[:3]]
        assert np.mean(misnamed) == pytest.approx(MISNAMED_SHARE, abs=0.08)


def test_unbiased_splits_are_independent_in_every_factor():
    world = World("biased", "val", 8000)
    known = world.factors
    for factor in ("colour", "background", "word"):
        values, ids = known[factor]
        table = torch.zeros(len(THINGS), len(values) + 1)
        table.index_put_((known["class"][1], ids), torch.ones(len(ids)), accumulate=True)
        expected = table.sum(1, keepdim=True) * table.sum(0, keepdim=True) / table.sum()
        used = expected > 0
        chi2 = ((table - expected)[used] ** 2 / expected[used]).sum()
        freedom = (len(THINGS) - 1) * (int((table.sum(0) > 0).sum()) - 1)
        assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_counterfactual_changes_only_what_it_says():
    world = World("balanced", "test", 40)
    index = next(i for i in range(40) if world.scene(i).background == "black" and not world.scene(i).word)
    before, same = np.asarray(world.image(index)), np.asarray(world.counterfactual(index, background="black"))
    brown = np.asarray(world.counterfactual(index, background="brown"))
    assert np.array_equal(before, same)
    changed = (before.astype(int) - brown).any(axis=2)
    assert changed[0].all(), "the background is another"
    assert not changed.all(), "the glyph is not"
    world.counterfactual(index, word="any word at all")


def test_vocabulary_has_every_value_and_two_hundred_distractors():
    words = World("balanced", "val", 1).vocabulary
    assert len(words) == len(set(words))
    assert len(distractors()) >= 200
    known = {*label_of("class"), *label_of("colour"), *label_of("background"), *label_of("word")}
    assert known <= set(words)
    spoken = {part for label in known for part in label.split()}
    assert not spoken & set(distractors())
    assert set(WORDS) <= set(THINGS)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"edition": "fair", "split": "val", "n": 3}, "edition must be"),
        ({"edition": "biased", "split": "dev", "n": 3}, "split must be"),
        ({"edition": "biased", "split": "val", "n": 0}, "at least 1, got 0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        World(**kwargs)


def test_unknown_factor_value():
    with pytest.raises(ValueError, match="unknown background 'teal'"):
        draw(Scene("star", "red", "teal"), np.random.default_rng(0))
