import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score
from torch.nn.functional import normalize

from lightning_sae.metrics.accuracy import (
    accuracy,
    balanced_accuracy,
    group_accuracy,
    predict,
    worst_group,
)


@pytest.fixture
def answers():
    """Predictions, targets and groups of 200 images; class 4 is only predicted, groups from 4 are rare."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 200)
    predictions = np.where(rng.random(200) < 0.6, targets, rng.integers(0, 5, 200))
    groups = targets + 4 * (rng.random(200) < 0.03)
    return torch.from_numpy(predictions), torch.from_numpy(targets), torch.from_numpy(groups)


def test_predictions_are_the_argmax_of_the_logits():
    generator = torch.Generator().manual_seed(0)
    images, classes = (normalize(torch.randn(n, 6, generator=generator), dim=-1) for n in (9, 4))
    logits = 50 * images.numpy() @ classes.numpy().T
    assert predict(images, classes).tolist() == logits.argmax(1).tolist()


def test_ties_go_to_the_lower_class():
    assert predict(torch.eye(2), torch.eye(2)[[1, 0, 0, 1]]).tolist() == [1, 0]


def test_accuracies_equal_sklearn(answers):
    predictions, targets, _ = answers
    assert accuracy(predictions, targets) == pytest.approx(accuracy_score(targets, predictions))
    recall = recall_score(targets, predictions, labels=range(4), average="macro")
    assert balanced_accuracy(predictions, targets) == pytest.approx(recall)


@pytest.mark.parametrize("min_size", [1, 3, 20])
def test_groups_equal_a_loop(answers, min_size):
    predictions, targets, groups = answers
    expected = {
        g: (predictions[groups == g] == targets[groups == g]).double().mean().item()
        for g in range(9)
        if (groups == g).sum() >= max(min_size, 1)
    }
    result = group_accuracy(predictions, targets, groups, min_size)
    assert result.groups.tolist() == list(expected)
    assert result.accuracy.tolist() == pytest.approx(list(expected.values()))
    assert result.counts.tolist() == [(groups == g).sum().item() for g in expected]
    worst = worst_group(predictions, targets, groups, min_size)
    assert worst.accuracy == min(expected.values())
    assert worst.group == min(expected, key=expected.__getitem__)


def test_unknown_targets_and_groups_are_left_out():
    predictions, targets = torch.tensor([0, 1, 1, 0]), torch.tensor([0, -1, 0, 0])
    assert accuracy(predictions, targets) == pytest.approx(2 / 3)
    assert balanced_accuracy(predictions, targets) == pytest.approx(2 / 3)
    assert worst_group(predictions, targets, torch.tensor([5, 2, -1, 5])) == (5, 1.0)


def test_nothing_to_measure():
    nothing = torch.tensor([], dtype=torch.int64)
    assert math.isnan(accuracy(nothing, nothing))
    assert math.isnan(balanced_accuracy(nothing, nothing))
    group, value = worst_group(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), min_size=2)
    assert group == -1
    assert math.isnan(value)
