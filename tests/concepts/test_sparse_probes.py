"""Sparse probes against dense scikit-learn on small data, and how many latents a value takes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from lightning_sae.concepts.sparse_probes import enough, f1_rise, sparse_probes
from lightning_sae.types import SparseLatents

from .conftest import VALUES, N


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
            predicted = probe.predict(scaled[test])
            assert found.accuracy[value, column] == pytest.approx(want)
            assert found.f1[value, column] == pytest.approx(f1_score(y[test], predicted))
    assert np.isnan(found.accuracy[5]).all()
    assert found.accuracy[:4, 0].mean() > 0.7 > found.accuracy[4].max()


def test_values_with_few_images_are_not_probed(dense, labels):
    labels = torch.where(labels == 3, -1, labels)
    labels[:4] = 3
    found = sparse_probes(SparseLatents.from_dense(dense), labels, VALUES, [1], min_images=5)
    assert np.isnan(found.accuracy[:, 0]).tolist() == [False, False, False, True, False, True]
    everyone = torch.zeros(N, dtype=torch.int64)
    assert np.isnan(sparse_probes(SparseLatents.from_dense(dense), everyone, 1, [1]).accuracy).all()


def test_more_latents_than_there_are_is_all_of_them(dense, labels):
    few = SparseLatents.from_dense(dense[:, :8])
    wide, all_eight = sparse_probes(few, labels, VALUES, [16]), sparse_probes(few, labels, VALUES, [8])
    np.testing.assert_array_equal(wide.accuracy, all_eight.accuracy)
    assert wide.latents[0, 8:].tolist() == [-1] * 8
    assert len(wide.main(0)) <= 8
    assert len(wide.main(5)) == 0


def test_the_error_of_a_rise_is_that_of_the_bootstrap():
    generator = np.random.default_rng(0)
    truth = generator.random(400) < 0.3
    few = np.where(generator.random(400) < 0.3, ~truth, truth)
    more = np.where(generator.random(400) < 0.2, ~few, few) | (truth & (generator.random(400) < 0.5))
    rise, error = f1_rise(few, more, truth)
    assert rise == pytest.approx(f1_score(truth, more) - f1_score(truth, few))
    draws = [
        f1_rise(*(part[rows] for part in (few, more, truth)))[0]
        for rows in generator.integers(0, 400, (2000, 400))
    ]
    assert error == pytest.approx(np.std(draws), rel=0.08)


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_splitting_is_the_number_of_latents_that_a_value_was_split_into(parts):
    """A latent for each equal part of the value's images, and others that fire by chance."""
    generator = torch.Generator().manual_seed(parts)
    n = 2000
    has = torch.rand(n, generator=generator) < 0.3
    part = torch.randint(parts, (n,), generator=generator)
    firing = (has[:, None] & (part[:, None] == torch.arange(parts))).float() * 2
    noise = (torch.rand(n, 12, generator=generator) < 0.1).float()
    found = sparse_probes(
        SparseLatents.from_dense(torch.cat([noise, firing], 1)), has.long() - 1, 1, [1, 2, 3, 5, 8]
    )
    assert found.splitting.tolist() == [parts]
    assert sorted(found.main(0)) == [*range(12, 12 + parts)]


def test_a_rise_that_noise_allows_is_none():
    """Four predictions of equal merit: the first is enough in all but the share that the interval allows."""
    generator = np.random.default_rng(1)
    first = []
    for _ in range(400):
        truth = generator.random(300) < 0.3
        told = np.where(generator.random((4, 300)) < 0.2, ~truth, truth)
        first.append(enough(told, truth) == 0)
    assert np.mean(first) > 0.95
