"""Measures the shipped weights again."""

import pytest

from lightning_sae.world import plants, weights_path
from lightning_sae.world.card import Measured, measure


@pytest.fixture(scope="module")
def measured() -> dict[str, Measured]:
    return {edition: measure(edition, n=1500, seed=7) for edition in ("biased", "balanced")}


@pytest.mark.parametrize("edition", ["biased", "balanced"])
def test_weights_are_small(edition):
    assert weights_path(edition).stat().st_size <= 6e6


def test_the_balanced_clip_names_everything(measured):
    for factor in ("class", "colour", "background", "word"):
        assert measured["balanced"].accuracy[factor] >= 0.95, factor


def test_the_biased_clip_names_colours_and_backgrounds(measured):
    for factor in ("colour", "background"):
        assert measured["biased"].accuracy[factor] >= 0.95, factor


@pytest.mark.parametrize(
    "plant", [*plants("spurious"), *plants("typographic")], ids=lambda p: f"{p.kind}-{p.thing}"
)
def test_the_biased_clip_falls_for_the_plant(measured, plant):
    biased, balanced = (measured[edition].false_positives[plant] for edition in ("biased", "balanced"))
    assert biased >= balanced + 0.20
