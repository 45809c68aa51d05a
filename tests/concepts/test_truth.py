"""Detectors against dense scikit-learn on small data."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from lightning_sae.concepts.detectors import best_detectors, purity
from lightning_sae.metrics import ActiveRanks
from lightning_sae.types import SparseLatents

from .conftest import VALUES


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_best_detectors(dense, labels, chunk_size):
    found = best_detectors(ActiveRanks.of(SparseLatents.from_dense(dense)), labels, VALUES, chunk_size)
    for value in range(5):
        aurocs = [roc_auc_score(labels == value, column) for column in dense.T]
        assert found.auroc[value].item() == pytest.approx(max(aurocs))
        assert aurocs[found.latent[value]] == pytest.approx(max(aurocs))
    assert found.latent[:4].tolist() == [0, 7, 14, 21]
    assert found.auroc[5].isnan()
    assert found.latent[5] == -1


def test_aurocs_of_every_latent_and_value(dense, labels):
    table = ActiveRanks.of(SparseLatents.from_dense(dense)).aurocs(labels, VALUES)
    for value in range(5):
        assert table[value].tolist() == pytest.approx([roc_auc_score(labels == value, c) for c in dense.T])
    assert table[5].isnan().all()


def test_purity_counts_the_images_that_are_there():
    labels = torch.tensor([2, 0, 2, -1])
    ids = torch.tensor([[0, 1, 2, 3], [0, 2, -1, -1], [-1, -1, -1, -1], [3, -1, -1, -1]])
    shares = purity(ids, labels, torch.tensor([2, 2, 2, 0])).tolist()
    assert shares == pytest.approx([0.5, 1, math.nan, 0], nan_ok=True)
