"""Compositions on images whose words are known."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from lightning_sae.concepts.composition import Composing, compose, composed

THINGS, COLOURS, N, D = 6, 4, 1200, 24


@pytest.fixture(scope="module")
def world():
    """1,200 images of a thing in a colour each, and a text for every value and ten that name nothing."""
    generator = torch.Generator().manual_seed(0)
    thing = torch.randint(THINGS, (N,), generator=generator)
    colour = torch.randint(COLOURS, (N,), generator=generator)
    texts = torch.linalg.qr(torch.randn(D, D, generator=generator))[0][: THINGS + COLOURS + 10]
    noise = torch.randn(N, D, generator=generator) / D**0.5
    embeddings = normalize(texts[thing] + texts[THINGS + colour] + 0.6 * noise, dim=1)
    return thing, colour, texts, embeddings


def words(fires, world, **settings):
    found, _ = compose(fires, world[3], world[2], Composing(**settings))
    return [word.text for word in found]


def test_what_fires_on_a_thing_in_a_colour_is_called_by_both(world):
    thing, colour, _, _ = world
    for t, c in [(0, 0), (1, 3), (5, 2)]:
        assert sorted(words((thing == t) & (colour == c), world)) == [t, THINGS + c]


def test_what_fires_on_one_value_is_called_by_one_word(world):
    thing, colour, _, _ = world
    assert [words(thing == t, world) for t in range(THINGS)] == [[t] for t in range(THINGS)]
    assert words(colour == 1, world) == [THINGS + 1]


def test_what_fires_at_random_has_no_word(world):
    for seed in range(10):
        fires = torch.rand(N, generator=torch.Generator().manual_seed(seed)) < 0.05
        assert words(fires, world) == []


def test_a_concept_that_no_word_names_has_none(world):
    """The word of the thing is taken out: what is left names nothing else that all of them have."""
    thing, _, texts, embeddings = world
    left = torch.cat([texts[:2], texts[3:]])
    found, stopped = compose(thing == 2, embeddings, left)
    assert found == []
    assert stopped.auroc < 0.8


def test_the_evidence_of_a_word(world):
    thing, colour, texts, embeddings = world
    fires = (thing == 3) & (colour == 0)
    (first, second), _ = compose(fires, embeddings, texts)
    s = embeddings @ texts[first.text]
    n = int(fires.sum())
    spread = (s.var(correction=0) / n * (N - n) / (N - 1)).sqrt()
    assert first.z == pytest.approx(float((s[fires].mean() - s.mean()) / spread), rel=1e-3)
    assert first.auroc == pytest.approx(roc_auc_score(fires, s), abs=1e-4)
    assert (first.firing, first.images) == (n, N)
    assert first.p == pytest.approx(1 / 301)
    assert second.images == int((s >= s[fires].quantile(0.1)).sum())
    described = s >= s[fires].quantile(0.1)
    own = roc_auc_score(fires[described], (embeddings @ texts[second.text])[described])
    assert second.auroc == pytest.approx(own, abs=1e-4)


def test_limits_of_the_search(world):
    thing, colour, texts, embeddings = world
    both = (thing == 0) & (colour == 0)
    assert len(words(both, world, most=1)) == 1
    assert words(both, world, min_images=int(both.sum()) + 1) == []
    assert words(torch.ones(N, dtype=torch.bool), world) == []
    found, _ = compose(both, embeddings, texts)
    assert float(composed(texts, found).norm()) == pytest.approx(1)
