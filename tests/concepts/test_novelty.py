"""What has no name yet: against counted random sets, and on planted copies."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.concepts.alignment import clarity
from lightning_sae.concepts.novelty import clarity_null, find_novel, near_copies

N, D = 300, 12


@pytest.fixture
def embeddings():
    """300 images of three concepts, a hundred each, about a direction that all share."""
    generator = torch.Generator().manual_seed(0)
    concepts = torch.eye(D)[:3].repeat_interleave(100, 0)
    return normalize(torch.ones(D) + 3 * concepts + torch.randn(N, D, generator=generator), dim=1)


def images(concept, start, n=10):
    return list(range(100 * concept + start, 100 * concept + start + n))


def test_the_null_is_the_clarity_of_random_sets(embeddings):
    null = clarity_null(embeddings, n=5, draws=4000, seed=1)
    assert null.shape == (4000,)
    gram = embeddings @ embeddings.T
    every_pair = (gram.sum() - gram.diagonal().sum()) / (N * (N - 1))
    assert float(null.mean()) == pytest.approx(float(every_pair), abs=4 * float(null.std()) / 4000**0.5)


def test_novel_is_alike_beyond_chance_and_not_named(embeddings):
    mixed = images(0, 0, 3) + images(1, 0, 4) + images(2, 0, 3)
    tops = torch.tensor([images(0, 0), images(1, 0), mixed, [-1] * 10, [7] + [-1] * 9])
    named = torch.tensor([False, True, False, False, False])
    found = find_novel(tops, embeddings, named, lambda n: clarity_null(embeddings, n, 500))
    assert found.novel.tolist() == [True, False, False, False, False]
    assert found.group.tolist() == [0, -1, -1, -1, -1]
    assert found.p.isnan().tolist() == [False, False, False, True, True]
    null = clarity_null(embeddings, 10, 500)
    p = (1 + (null >= clarity(tops, embeddings)[2]).sum()) / 501
    assert float(found.p[2]) == pytest.approx(float(p))


def test_random_latents_are_novel_no_more_often_than_the_false_discovery_rate(embeddings):
    generator = torch.Generator().manual_seed(5)
    tops = torch.stack([torch.randperm(N, generator=generator)[:10] for _ in range(200)])
    found = find_novel(tops, embeddings, torch.zeros(200) > 0, lambda n: clarity_null(embeddings, n), 0.05)
    assert found.novel.sum() <= 2


def test_copies_are_one_group_and_the_largest_comes_first(embeddings):
    starts = [(0, 0), (1, 0), (1, 40), (2, 10), (1, 70), (2, 50)]
    groups = near_copies(torch.tensor([images(c, s) for c, s in starts]), embeddings)
    assert groups.tolist() == [2, 0, 0, 1, 0, 1]


def test_a_latent_alone_is_a_group(embeddings):
    assert near_copies(torch.tensor([images(0, 0)]), embeddings).tolist() == [0]
    assert near_copies(torch.empty(0, 10, dtype=torch.int64), embeddings).tolist() == []
