"""Detectors and sparse probes against dense scikit-learn on small data."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lightning_sae.concepts.detectors import best_detectors, purity, sparse_probes
from lightning_sae.metrics import ActiveRanks
from lightning_sae.types import SparseLatents

N, D_SAE, VALUES = 240, 30, 6


@pytest.fixture
def labels():
    """Values 0..4 of some images; none has value 5, some have none."""
    return torch.randint(-1, 5, (N,), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense(labels):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randint(1, 6, (N, D_SAE), generator=generator).float()
    latents *= torch.rand(N, D_SAE, generator=generator) < 0.15
    for value in range(4):
        latents[:, 7 * value] += 2.0 * (labels == value) * (torch.rand(N, generator=generator) < 0.7)
    latents[:, 5] = 0
    return latents


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


@pytest.mark.parametrize("seed", [0, 1])
def test_sparse_probes_are_dense_scikit_learn(dense, labels, seed):
    ks = [1, 3, 16]
    found = sparse_probes(SparseLatents.from_dense(dense), labels, VALUES, ks, seed, min_images=5)
    order = np.random.default_rng(seed).permutation(N)
    train, test = order[: N // 2], order[N // 2 :]
    x = dense.double().numpy()
    for value in range(5):
        y = (labels == value).numpy()
        difference = x[train][y[train]].mean(0) - x[train][~y[train]].mean(0)
        chosen = np.argsort(-abs(difference), kind="stable")
        for column, k in enumerate(ks):
            deviation = x[train].std(0)[chosen[:k]]
            scaled = x[:, chosen[:k]] / np.where(deviation == 0, 1, deviation)
            probe = LogisticRegression(class_weight="balanced", tol=1e-8).fit(scaled[train], y[train])
            want = balanced_accuracy_score(y[test], probe.predict(scaled[test]))
            assert found[value, column] == pytest.approx(want)
    assert np.isnan(found[5]).all()
    assert found[:4, 0].mean() > 0.7 > found[4].max()


def test_values_with_few_images_are_not_probed(dense, labels):
    labels = torch.where(labels == 3, -1, labels)
    labels[:4] = 3
    found = sparse_probes(SparseLatents.from_dense(dense), labels, VALUES, [1], min_images=5)
    assert np.isnan(found[:, 0]).tolist() == [False, False, False, True, False, True]
    everyone = torch.zeros(N, dtype=torch.int64)
    assert np.isnan(sparse_probes(SparseLatents.from_dense(dense), everyone, 1, [1])).all()


def test_more_latents_than_there_are_is_all_of_them(dense, labels):
    few = SparseLatents.from_dense(dense[:, :8])
    wide, all_eight = sparse_probes(few, labels, VALUES, [16]), sparse_probes(few, labels, VALUES, [8])
    np.testing.assert_array_equal(wide, all_eight)
