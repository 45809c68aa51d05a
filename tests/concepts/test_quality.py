"""Scores of latents against plain formulas, pair by pair and partition by partition."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.concepts.quality import (
    image_overlap,
    label_churn,
    polysemanticity,
    redundancy,
    semantic_lens_polysemanticity,
    two_clusters,
)


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def best_partition(rows):
    """Largest objective and distance of the means, over all ways to part the rows in two."""
    best = (-math.inf, math.nan)
    for chosen in itertools.product([True, False], repeat=len(rows) - 1):
        first = np.array([True, *chosen])
        if first.all():
            continue
        means = rows[first].mean(0), rows[~first].mean(0)
        spread = sum(((rows[mask] - m) ** 2).sum() for mask, m in zip((first, ~first), means, strict=True))
        cosine = means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1])
        best = max(best, (-spread, 1 - cosine))
    return best


@pytest.fixture
def image_ids():
    """Forty latents with 7 top images out of 60, the last six with 6, 5, ..., 1."""
    ids = torch.stack([torch.randperm(60, generator=torch.Generator().manual_seed(j))[:7] for j in range(40)])
    for missing in range(1, 7):
        ids[33 + missing, 7 - missing :] = -1
    return ids


@pytest.mark.parametrize("chunk_size", [1, 7, 512])
def test_polysemanticity_is_that_of_the_best_partition(image_ids, chunk_size):
    embeddings = unit(60, 5)
    scores = polysemanticity(image_ids, embeddings, chunk_size).tolist()
    for ids, score in zip(image_ids.tolist(), scores, strict=True):
        rows = embeddings[[i for i in ids if i >= 0]].numpy()
        if len(rows) < 2:
            assert math.isnan(score)
        else:
            assert score == pytest.approx(best_partition(rows)[1], abs=1e-9)


def test_two_meanings_are_told_apart():
    meanings = unit(2, 64)
    embeddings = normalize(meanings.repeat_interleave(10, 0) + 0.2 * unit(20, 64, seed=1), dim=-1)
    ids = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10])
    first = two_clusters((embeddings[ids[0]] @ embeddings[ids[0]].T)[None], torch.ones(1, 20).bool())[0]
    assert {tuple(sorted(ids[0][mask].tolist())) for mask in (first, ~first)} == {
        tuple(range(10)),
        tuple(range(10, 20)),
    }
    two, one = polysemanticity(ids, embeddings).tolist()
    means = embeddings[:10].mean(0), embeddings[10:].mean(0)
    assert two == pytest.approx(1 - float(torch.cosine_similarity(*means, dim=0)))
    assert one < 0.1 < two


def test_polysemanticity_of_equal_and_of_opposite_images():
    embeddings = torch.tensor([[0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]])
    scores = polysemanticity(torch.tensor([[0, 1, -1], [0, 1, 2], [-1, -1, -1]]), embeddings)
    assert scores.tolist() == pytest.approx([0, 2, math.nan], nan_ok=True, abs=1e-6)


def test_polysemanticity_does_not_depend_on_the_order(image_ids):
    embeddings, order = unit(60, 5), torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        polysemanticity(image_ids, embeddings),
        polysemanticity(image_ids[:, order], embeddings),
        equal_nan=True,
    )


def about(meanings, sizes, seed):
    """Images that scatter about meanings."""
    rows = meanings.repeat_interleave(torch.tensor(sizes), 0)
    return normalize(rows + 0.3 * unit(*rows.shape, seed=seed), dim=-1)


@pytest.mark.parametrize("sizes", [(4, 4), (2, 7), (5, 3)])
def test_semantic_lens_parts_the_images_in_two(sizes):
    rows = about(unit(2, 16), sizes, seed=3)
    ids = torch.cat([torch.randperm(len(rows)), torch.full((2,), -1)])[None]
    expected = best_partition(rows.numpy())[1]
    assert semantic_lens_polysemanticity(ids, rows).item() == pytest.approx(expected, abs=1e-9)
    assert polysemanticity(ids, rows).item() == pytest.approx(expected, abs=1e-9)


def test_semantic_lens_replaces_the_cluster_of_an_outlier():
    """One image of another meaning is no second meaning, for them; here it is."""
    rows = about(unit(2, 16), (13, 1), seed=4)
    ids = torch.tensor([13, *range(13)])[None]  # the outlier leads, and is one of the ten
    v = rows.mean(0)
    cosines = [float(torch.cosine_similarity(v, rows[i], dim=0)) for i in ids[0, :10]]
    theirs = semantic_lens_polysemanticity(ids, rows).item()
    assert theirs == pytest.approx(1 - sum(cosines) / 10, abs=1e-9)
    assert polysemanticity(ids, rows).item() == pytest.approx(best_partition(rows.numpy())[1], abs=1e-9)
    assert polysemanticity(ids, rows).item() > 2 * theirs


def test_semantic_lens_of_few_and_of_equal_images():
    embeddings = torch.tensor([[0.6, 0.8], [0.8, 0.6], [-0.6, -0.8]])
    ids = torch.tensor([[0, 0, 0], [0, -1, -1], [-1, -1, -1], [0, 1, -1]])
    apart = 1 - math.cos(math.atan2(0.8, 0.6) - math.pi / 4)  # of each of two images from their mean
    expected = [0, math.nan, math.nan, apart]
    found = semantic_lens_polysemanticity(ids, embeddings).tolist()
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_redundancy_is_the_largest_cosine_to_another(chunk_size):
    vectors, known = 3 * unit(23, 4), torch.arange(23) % 5 != 2
    vectors[2] = torch.nan
    found = redundancy(vectors, known, chunk_size)
    for j in range(23):
        others = [i for i in range(23) if i != j and known[i]]
        if not known[j]:
            assert found.cosine[j].isnan()
            assert found.other[j] == -1
            continue
        cosines = [float(torch.cosine_similarity(vectors[i], vectors[j], dim=0)) for i in others]
        assert found.cosine[j].item() == pytest.approx(max(cosines))
        assert found.other[j] == others[int(np.argmax(cosines))]


def test_a_lonely_latent_is_not_redundant():
    nearest = redundancy(torch.eye(3), torch.tensor([False, True, False]))
    assert nearest.cosine.isnan().all()
    assert nearest.other.tolist() == [-1, -1, -1]
    assert redundancy(torch.eye(3), torch.zeros(3, dtype=torch.bool)).cosine.isnan().all()


def test_churn_counts_latents_with_a_label_both_times():
    assert label_churn(["a", "b", "", "c"], ["a", "c", "d", ""]) == 0.5
    assert math.isnan(label_churn(["", "a"], ["b", ""]))
    with pytest.raises(ValueError, match="shorter"):
        label_churn(["a", "b"], ["a"])


def test_image_overlap_is_the_jaccard_index():
    generator = torch.Generator().manual_seed(0)
    before, now = (torch.stack([torch.randperm(9, generator=generator)[:5] for _ in range(30)]) for _ in "ab")
    before[3, 2:], now[4, 1:], before[5], now[6] = -1, -1, -1, -1
    before[7], now[7] = -1, -1
    for a, b, overlap in zip(before.tolist(), now.tolist(), image_overlap(before, now).tolist(), strict=True):
        first, second = set(a) - {-1}, set(b) - {-1}
        expected = len(first & second) / len(first | second) if first | second else math.nan
        assert overlap == pytest.approx(expected, nan_ok=True)


def test_works_under_inference_mode(image_ids):
    with torch.inference_mode():
        assert polysemanticity(image_ids, unit(60, 5)).shape == (40,)
        assert redundancy(unit(9, 3), torch.ones(9, dtype=torch.bool), 4).cosine.shape == (9,)
