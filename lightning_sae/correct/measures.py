"""What a correction does to every group of images and to every class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.correct.costs import damage
from lightning_sae.correct.record import BeforeAfter, ClassAccuracy, GroupRow, SplitMeasures
from lightning_sae.metrics.accuracy import accuracy
from lightning_sae.metrics.group_errors import UNKNOWN, Groups, group_errors


class Predictions(NamedTuple):
    """The class that is predicted of each image.

    Attributes:
        before: `[n]` int64, as it is.
        after: `[n]`, corrected.
        shifted: `[n]`, with nothing but a shift of the corrected class's logit.
    """

    before: Tensor
    after: Tensor
    shifted: Tensor


def measured(
    split: str, predictions: Predictions, targets: Tensor, target: int, groups: Groups, min_group: int
) -> SplitMeasures:
    """Return the accuracy, false positives and the worst group's balanced error."""
    errors = (group_errors(predicted, targets, target, groups, min_group) for predicted in predictions)
    data = groups.of_data(targets)
    (whole,) = group_rows(
        Predictions(*map(groups.of_data, predictions)), data, target, [all_images(len(data))], min_group
    )
    return SplitMeasures(
        split=split,
        images=int((data != UNKNOWN).sum()),
        accuracy=_change([accuracy(groups.of_data(predicted), data) for predicted in predictions]),
        false_positives=whole.false_positives,
        worst=_change([error.worst for error in errors]),
        damage=damage(groups.of_data(predictions.before), groups.of_data(predictions.after), data),
    )


def group_rows(
    predictions: Predictions, targets: Tensor, target: int, factors: Sequence[Groups], min_group: int
) -> list[GroupRow]:
    """Return a row for each value of each factor.

    Args:
        predictions: of the images.
        targets: `[n]` int64, of the classifier's classes, `UNKNOWN` or `OUTSIDE`.
        target: the corrected class.
        factors: of the same images.
        min_group: images; the balanced error of smaller groups is left out.
    """
    return [
        _row(predictions, targets, target, groups, v, min_group)
        for groups in factors
        for v in range(len(groups.values))
        if bool(((groups.of == v) & (targets != UNKNOWN)).any())
    ]


def all_images(n: int) -> Groups:
    """Return one group of `n` images."""
    return Groups("", [""], torch.zeros(n, dtype=torch.long))


def _row(
    predictions: Predictions, targets: Tensor, target: int, groups: Groups, v: int, min_group: int
) -> GroupRow:
    errors = [group_errors(predicted, targets, target, groups, min_group) for predicted in predictions]
    return GroupRow(
        factor=groups.name,
        value=groups.values[v],
        own=int(errors[0].own[v]),
        others=int(errors[0].others[v]),
        own_accuracy=_change([1 - float(error.miss[v]) for error in errors]),
        others_accuracy=_change([float(error.others_right[v]) for error in errors]),
        false_positives=_change([float(error.false_positives[v]) for error in errors]),
        error=_change([float(error.error[v]) for error in errors]),
    )


def class_rows(predictions: Predictions, targets: Tensor, class_names: Sequence[str]) -> list[ClassAccuracy]:
    """Return a row for each class that has images, the largest loss first."""
    rows = []
    for c, name in enumerate(class_names):
        own = targets == c
        if n := int(own.sum()):
            shares = [float((predicted[own] == c).double().mean()) for predicted in predictions]
            lost = damage(predictions.before[own], predictions.after[own], targets[own])
            rows.append(ClassAccuracy(name=name, images=n, accuracy=_change(shares), lost=lost))
    return sorted(rows, key=lambda row: row.accuracy.gain)


def _change(values: Sequence[float]) -> BeforeAfter:
    before, after, by_shift = (None if value != value else value for value in values)
    return BeforeAfter(before=before, after=after, shifted=by_shift)
