"""Labels shuffled over the latents, against all permutations of a tiny case."""

from itertools import permutations

import torch
from torch.nn.functional import normalize

from lightning_sae.baselines.shuffled import mean_alignment, permuted
from lightning_sae.concepts.alignment import paired_alignment


def test_the_mean_alignment_is_that_over_all_permutations():
    torch.manual_seed(0)
    vectors, texts = torch.randn(4, 5), normalize(torch.randn(6, 5), dim=1)
    empty, index = normalize(torch.randn(5), dim=0), torch.tensor([2, 5, 2, 0])
    every = [paired_alignment(vectors, texts[list(labels)], empty) for labels in permutations(index.tolist())]
    torch.testing.assert_close(mean_alignment(vectors, index, texts, empty), torch.stack(every).mean(0))


def test_a_latent_without_a_label_gets_none():
    index = torch.tensor([-1, 3, -1, 4, 5, 3])
    found = [permuted(index, seed) for seed in range(50)]
    assert all((each[[0, 2]] == -1).all() for each in found)
    assert {tuple(sorted(each[index >= 0].tolist())) for each in found} == {(3, 3, 4, 5)}
    assert len({tuple(each.tolist()) for each in found}) == 12  # of the 4! / 2! orders each comes
    assert torch.equal(permuted(index, 7), found[7])
    vectors = torch.eye(6)
    vectors[0] = torch.nan
    assert (
        mean_alignment(vectors, index, torch.eye(6), torch.zeros(6)).isnan().tolist() == [True] + [False] * 5
    )
