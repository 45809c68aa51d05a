"""Random sets, nulls and p-values against what is known of them."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, false_discovery_control
from torch.nn.functional import normalize

from lightning_sae.alignment import alignment_scores, best_labels, concept_vectors
from lightning_sae.metrics import top_images
from lightning_sae.reliance import calibrated_threshold
from lightning_sae.significance import (
    best_label_null,
    fixed_text_null,
    p_values,
    p_values_by_size,
    random_image_sets,
    significant,
)
from lightning_sae.types import SparseLatents


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


@pytest.fixture
def judge():
    return unit(300, 6), unit(40, 6, seed=1), unit(6, seed=2)


def test_every_set_is_equally_likely():
    sets = random_image_sets(n_images=6, n=3, draws=8000).sort().values
    counts = [int((sets == torch.tensor(s)).all(1).sum()) for s in combinations(range(6), 3)]
    assert sum(counts) == 8000  # no image twice
    assert chisquare(counts).pvalue > 0.01


def test_the_seed_decides():
    first, again, other = (random_image_sets(50, 5, 20, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("arguments", [(12, 0, 5), (12, 13, 5), (12, 3, 0)])
def test_sets_that_cannot_be_drawn(arguments):
    with pytest.raises(ValueError, match="random set"):
        random_image_sets(*arguments)


def test_nulls_are_the_scores_of_the_random_sets(judge):
    embeddings, texts, empty = judge
    sets = random_image_sets(300, 4, draws=25, seed=5).numpy()
    v = embeddings.numpy()[sets].mean(1)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    scores = v @ texts.numpy().T - (v @ empty.numpy())[:, None]
    np.testing.assert_allclose(fixed_text_null(*judge, n=4, draws=25, seed=5), scores)
    np.testing.assert_allclose(best_label_null(*judge, n=4, draws=25, seed=5), scores.max(1))


def test_the_threshold_of_unexpected_is_a_quantile_of_the_fixed_texts_null(judge):
    null = fixed_text_null(*judge, n=4, draws=200, seed=1)
    threshold = calibrated_threshold(*judge, n=4, quantile=0.95, draws=200, seed=1)
    np.testing.assert_allclose(threshold, np.quantile(null, 0.95, axis=0))


def test_p_values_equal_the_definition():
    generator = torch.Generator().manual_seed(0)
    null = torch.randint(20, (99,), generator=generator).float()
    scores = torch.tensor([-1.0, 3.0, 7.5, 19.0, 25.0, torch.nan])
    expected = [(1 + int((null >= s).sum())) / 100 for s in scores[:-1]]
    p = p_values(scores, null)
    np.testing.assert_allclose(p[:-1], expected)
    assert p[4] == 1 / 100  # never 0
    assert p[5].isnan()


def test_latents_with_fewer_images_have_their_own_null():
    scores, sizes = torch.tensor([0.5, 0.5, 0.5, torch.nan]), torch.tensor([1, 3, 1, 0])
    asked = []

    def null(n):
        asked.append(n)
        return torch.full((9,), n / 4, dtype=torch.float64)

    np.testing.assert_allclose(p_values_by_size(scores, sizes, null), [0.1, 1.0, 0.1, np.nan])
    assert asked == [1, 3]


@pytest.mark.parametrize("n", [1, 5])
def test_labels_of_shuffled_data_have_uniform_p_values(judge, n):
    """Latents that fire at random: a share alpha of their labels has p <= alpha, no more and no less."""
    embeddings, texts, empty = judge
    draws, d_sae = 4000, 1500
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand(300, d_sae, generator=generator)
    _, top = top_images(SparseLatents.from_dense(noise), torch.arange(300), n)
    labels = best_labels(concept_vectors(top, embeddings), texts, empty)
    p = p_values_by_size(labels.score, (top >= 0).sum(1), lambda m: best_label_null(*judge, m, draws))
    for alpha in (0.01, 0.05, 0.2, 0.5):
        # the null is an estimate too: its own error widens the interval
        effective = d_sae * draws / (d_sae + draws)
        low, high = binom.interval(0.999, int(effective), alpha)
        assert low / int(effective) <= float((p <= alpha).double().mean()) <= high / int(effective)
    assert not significant(p).any()


@pytest.mark.parametrize("n", [1, 5])
def test_as_many_shuffled_latents_reach_the_threshold_of_unexpected_as_it_claims(judge, n):
    """Latents that fire at random: one in a hundred means a text by chance, above its 99 % quantile."""
    embeddings, texts, empty = judge
    draws, d_sae = 4000, 1500
    noise = torch.rand(300, d_sae, generator=torch.Generator().manual_seed(8))
    _, top = top_images(SparseLatents.from_dense(noise), torch.arange(300), n)
    scores = alignment_scores(concept_vectors(top, embeddings), texts, empty)
    for quantile in (0.99, 0.95, 0.5):
        reached = (scores > calibrated_threshold(*judge, n, quantile, draws)).double().mean(0)
        effective = d_sae * draws // (d_sae + draws)
        low, high = binom.interval(1 - 1e-3 / len(texts), effective, 1 - quantile)
        assert low / effective <= float(reached.min()) <= float(reached.max()) <= high / effective


def test_a_planted_concept_is_significant():
    embeddings, texts, empty = unit(300, 40), unit(40, 40, seed=1), torch.zeros(40, dtype=torch.float64)
    nearest = (embeddings @ texts[3]).topk(5).indices[None]
    score = best_labels(concept_vectors(nearest, embeddings), texts, empty).score
    assert p_values(score, best_label_null(embeddings, texts, empty, n=5)).item() == pytest.approx(1 / 1001)


def test_benjamini_hochberg_on_its_own_example():
    """Benjamini and Hochberg 1995, section 3.2: of 15 p-values the first four are kept at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert significant(torch.tensor(p), 0.05).tolist() == [True] * 4 + [False] * 11


def test_benjamini_hochberg_of_any_order_and_without_the_unknown():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(200, generator=generator, dtype=torch.float64) ** 4
    p[::7] = torch.nan
    known = ~p.isnan()
    for fdr in (0.01, 0.05, 0.2):
        kept = significant(p, fdr)
        assert torch.equal(kept[known], torch.from_numpy(false_discovery_control(p[known].numpy()) <= fdr))
        assert not kept[~known].any()
        assert kept.any()
    assert not significant(torch.full((3,), torch.nan)).any()
