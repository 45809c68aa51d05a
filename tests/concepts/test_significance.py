"""Random sets, nulls and p-values against what is known of them."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, false_discovery_control
from torch.nn.functional import normalize

from lightning_sae.concepts.alignment import best_labels, concept_vectors
from lightning_sae.concepts.significance import (
    best_label_null,
    chance_of,
    label_z,
    p_values,
    p_values_by_size,
    random_image_sets,
    significant,
)
from lightning_sae.metrics import top_images
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


def brute_z(embeddings, texts, sets):
    """Each set's mean cosine with each text, in standard deviations of a mean of as many images."""
    cosines, (n_images, n) = embeddings @ texts.T, (len(embeddings), sets.shape[1])
    spread = np.sqrt(cosines.var(0) / n * (n_images - n) / (n_images - 1))
    return (cosines[sets].mean(1) - cosines.mean(0)) / spread


def test_mean_and_variance_of_a_random_set_are_those_of_all_sets():
    """Five images: their ten pairs can be written down."""
    embeddings, texts = unit(5, 4), unit(3, 4, seed=1)
    pairs = torch.tensor(list(combinations(range(5), 2)))
    means = concept_vectors(pairs, embeddings) @ texts.T
    z = chance_of(embeddings, texts).standardise(means, 2)
    torch.testing.assert_close(z.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(z.square().mean(0), torch.ones(3, dtype=torch.float64))


def test_the_null_is_the_best_z_of_the_random_sets(judge):
    embeddings, texts, _ = judge
    sets = random_image_sets(300, 4, draws=25, seed=5).numpy()
    expected = brute_z(embeddings.numpy(), texts.numpy(), sets).max(1)
    np.testing.assert_allclose(best_label_null(embeddings, texts, n=4, draws=25, seed=5), expected)
    chunked = best_label_null(embeddings, texts, n=4, draws=25, seed=5, chunk_size=7)
    np.testing.assert_allclose(chunked, expected)


def test_a_label_is_held_against_random_sets_of_its_size(judge):
    embeddings, texts, _ = judge
    tops = torch.tensor([[1, 2, 3, 4], [7, 9, -1, -1], [-1, -1, -1, -1]])
    index = torch.tensor([3, 0, -1])
    z = label_z(concept_vectors(tops, embeddings), (tops >= 0).sum(1), index, texts, embeddings)
    for row, ids in enumerate(([1, 2, 3, 4], [7, 9])):
        brute = brute_z(embeddings.numpy(), texts.numpy(), np.array([ids]))
        assert z[row].item() == pytest.approx(brute[0, index[row]])
    assert z[2].isnan()


def test_a_text_that_all_images_agree_with_has_no_z():
    same = torch.eye(2)[:1].expand(6, 2)
    chance = chance_of(same, torch.eye(2))
    assert chance.standardise(torch.ones(2), 3).isnan().all()
    assert (best_label_null(same, torch.eye(2), n=3, draws=2) == -torch.inf).all()


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
    embeddings, texts, _ = judge
    draws, d_sae = 4000, 1500
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand(300, d_sae, generator=generator)
    _, top = top_images(SparseLatents.from_dense(noise), torch.arange(300), n)
    vectors, sizes = concept_vectors(top, embeddings), (top >= 0).sum(1)
    chance = chance_of(embeddings, texts)
    best = chance.standardise(vectors @ texts.T, sizes[:, None]).amax(1)
    p = p_values_by_size(best, sizes, lambda m: best_label_null(embeddings, texts, m, draws))
    for alpha in (0.01, 0.05, 0.2, 0.5):
        # the null is an estimate too: its own error widens the interval
        effective = d_sae * draws / (d_sae + draws)
        low, high = binom.interval(0.999, int(effective), alpha)
        assert low / int(effective) <= float((p <= alpha).double().mean()) <= high / int(effective)
    assert not significant(p).any()


def test_a_planted_concept_is_significant():
    embeddings, texts, empty = unit(300, 40), unit(40, 40, seed=1), torch.zeros(40, dtype=torch.float64)
    nearest = (embeddings @ texts[3]).topk(5).indices[None]
    vectors, sizes = concept_vectors(nearest, embeddings), torch.tensor([5])
    z = label_z(vectors, sizes, best_labels(vectors, texts, empty).index, texts, embeddings)
    assert p_values(z, best_label_null(embeddings, texts, n=5)).item() == pytest.approx(1 / 1001)


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


def test_a_hypothesis_at_the_rate_itself_is_kept():
    p = torch.tensor([0.05, 0.05000001], dtype=torch.float64)
    assert [bool(significant(one.view(1), 0.05)) for one in p] == [True, False]
