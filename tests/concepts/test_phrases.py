"""Phrases of captions, against the formula written out."""

import math

import numpy as np
import pytest

from lightning_sae.concepts.phrases import log_odds_z, phrases_of, typical_phrases


def test_log_odds_are_those_of_monroe_colaresi_and_quinn():
    inside, outside, prior = [7.0, 1.0, 4.0], [3.0, 20.0, 9.0], 10.0
    both = [i + o for i, o in zip(inside, outside, strict=True)]
    found = log_odds_z(np.array(inside), np.array(outside), prior)
    for w in range(3):
        a = prior * both[w] / sum(both)
        in_odds = (inside[w] + a) / (sum(inside) + prior - inside[w] - a)
        out_odds = (outside[w] + a) / (sum(outside) + prior - outside[w] - a)
        variance = 1 / (inside[w] + a) + 1 / (outside[w] + a)
        assert found[w] == pytest.approx((math.log(in_odds) - math.log(out_odds)) / variance**0.5)


def test_a_phrase_that_is_nowhere_is_not_typical():
    assert log_odds_z(np.array([0.0, 3.0]), np.array([0.0, 3.0])).tolist() == [0.0, 0.0]


def test_phrases_are_counted_once_a_caption():
    found = phrases_of(["a star a star", "a sun", "A Star!"], min_captions=2)
    assert found.names == ["a", "a star", "star"]
    assert found.present.toarray().tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("captions", [[], ["one"], ["", "", "", "", ""], ["a", "b", "c", "d", "e", "f"]])
def test_captions_without_a_phrase(captions):
    found = phrases_of(captions)
    assert found.names == []
    assert typical_phrases(found, np.zeros(len(captions), dtype=bool)) == []


def test_what_is_typical_and_what_chance_finds():
    generator = np.random.default_rng(0)
    things, colours = ["star", "sun", "heart", "flag"], ["red", "blue", "green"]
    thing, colour = generator.integers(4, size=800), generator.integers(3, size=800)
    found = phrases_of([f"a {colours[c]} {things[t]}" for t, c in zip(thing, colour, strict=True)])
    typical = typical_phrases(found, (thing == 1) & (generator.random(800) < 0.9))
    assert typical[0].name == "sun"
    assert typical[0].inside > 5 * typical[0].outside
    by_chance = [typical_phrases(found, generator.random(800) < 0.1) for _ in range(100)]
    assert sum(bool(each) for each in by_chance) <= 4  # at a level of 0.01 about one
