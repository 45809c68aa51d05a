"""Zero-shot classification: logits, predictions, accuracy, also per group."""

from typing import NamedTuple

import torch
from torch import Tensor


class GroupAccuracy(NamedTuple):
    """Accuracy of every group that is large enough, in the order of the group numbers.

    Attributes:
        groups: `[m]` int64, the group numbers.
        accuracy: `[m]` in [0, 1].
        counts: `[m]` int64, images of each group.
    """

    groups: Tensor
    accuracy: Tensor
    counts: Tensor


class WorstGroup(NamedTuple):
    """The group with the lowest accuracy.

    Attributes:
        group: its number, the lower one of several; -1 if no group is large enough.
        accuracy: in [0, 1]; NaN if no group is large enough.
    """

    group: int
    accuracy: float


def predict(embeddings: Tensor, class_embeddings: Tensor) -> Tensor:
    """Return the class nearest to each image, `[n]` int64, ties to the lower index; no scale changes it.

    Example:
        >>> predict(torch.tensor([[0.6, 0.8], [0.5, 0.5]]), torch.eye(2))
        tensor([1, 0])
    """
    return (embeddings @ class_embeddings.T).argmax(1)


def accuracy(predictions: Tensor, targets: Tensor) -> float:
    """Return the share of right predictions, in [0, 1], over images of known class.

    The class is known where the target is not -1. Without any such image the share is NaN.

    Example:
        >>> accuracy(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
        0.6666666...
    """
    right = (predictions == targets)[targets >= 0]
    return right.double().mean().item()


def group_accuracy(predictions: Tensor, targets: Tensor, groups: Tensor, min_size: int = 1) -> GroupAccuracy:
    """Return the accuracy within each group of images.

    Args:
        predictions: `[n]` int64.
        targets: `[n]` int64, -1 leaves the image out.
        groups: `[n]` int64, the group of each image, -1 leaves the image out.
        min_size: smaller groups are left out.

    Example:
        >>> group_accuracy(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([7, 7, 3])).accuracy
        tensor([0., 1.], dtype=torch.float64)
    """
    known = (targets >= 0) & (groups >= 0)
    numbers, member = torch.unique(groups[known], return_inverse=True)
    counts = member.bincount(minlength=len(numbers))
    right = member.bincount((predictions == targets)[known].double(), minlength=len(numbers))
    large = counts >= min_size
    return GroupAccuracy(numbers[large], (right / counts)[large], counts[large])


def balanced_accuracy(predictions: Tensor, targets: Tensor) -> float:
    """Return the mean of the classes' accuracies, in [0, 1]: every class counts alike; NaN without images.

    Example:
        >>> balanced_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
        0.5
    """
    return group_accuracy(predictions, targets, targets).accuracy.mean().item()


def worst_group(predictions: Tensor, targets: Tensor, groups: Tensor, min_size: int = 1) -> WorstGroup:
    """Return the group with the lowest accuracy (Sagawa et al. 2020, arXiv 1911.08731).

    Args:
        predictions: `[n]` int64.
        targets: `[n]` int64, -1 leaves the image out.
        groups: `[n]` int64, such as `class * n_factor_values + factor_value`; -1 leaves the image out.
        min_size: smaller groups are left out: a few images say little.

    Example:
        >>> worst_group(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([7, 7, 3]))
        WorstGroup(group=3, accuracy=0.0)
    """
    by_group = group_accuracy(predictions, targets, groups, min_size)
    if len(by_group.groups) == 0:
        return WorstGroup(-1, float("nan"))
    worst = by_group.accuracy.argmin()
    return WorstGroup(int(by_group.groups[worst]), by_group.accuracy[worst].item())
