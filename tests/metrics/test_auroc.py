"""AUROC against the definition over all pairs."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lightning_sae.metrics import auroc, sparse_auroc
from lightning_sae.types import SparseLatents


@pytest.fixture
def positives() -> Tensor:
    return torch.rand(150, generator=torch.Generator().manual_seed(0)) < 0.3


def all_pairs(scores: Tensor, positives: Tensor) -> float:
    difference = scores[positives][:, None] - scores[~positives]
    return float(((difference > 0).double() + 0.5 * (difference == 0)).mean())


@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_auroc(positives: Tensor, levels: int) -> None:
    scores = torch.randint(levels, (150,), generator=torch.Generator().manual_seed(1)).float() - 2
    want = all_pairs(scores, positives)
    assert auroc(scores, positives).item() == pytest.approx(want, abs=1e-12)
    assert roc_auc_score(positives, scores) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_sparse_auroc(positives: Tensor, share: float) -> None:
    generator = torch.Generator().manual_seed(2)
    dense = torch.randint(1, 5, (150, 30), generator=generator) + 0.0
    dense *= torch.rand(150, 30, generator=generator) < share
    got = sparse_auroc(SparseLatents.from_dense(dense), positives)
    want = [all_pairs(dense[:, latent], positives) for latent in range(30)]
    assert got.tolist() == pytest.approx(want, abs=1e-12)


def test_zeros_kept_in_the_pattern_count_as_inactive() -> None:
    latents = SparseLatents.from_topk(
        torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0], [0], [1]]), d_sae=2
    )
    assert sparse_auroc(latents, torch.tensor([False, True, True])).tolist() == [0.75, 0.5]


def test_empty_class_is_nan() -> None:
    nobody = torch.zeros(3, dtype=torch.bool)
    assert auroc(torch.rand(3), nobody).isnan()
    assert sparse_auroc(SparseLatents.from_dense(torch.ones(3, 2)), nobody).isnan().all()
