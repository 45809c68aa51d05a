"""What a corrected classifier takes from the images that the correction is not about."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.metrics.accuracy import accuracy
from lightning_sae.metrics.group_errors import GroupErrors, Groups, others_than
from lightning_sae.metrics.wilson import wilson


class Costs(NamedTuple):
    """The costs of a correction; each is a share of images, and below 0 where it is a gain.

    Attributes:
        loss: loss of accuracy over all classes.
        group_loss: largest loss of the accuracy of the other classes in a group.
        class_loss: largest loss of the accuracy of a class; see `class_losses`.
        false_positive_rise: rise of the share of all other images that are taken for the corrected class.
        loser: class that has the loss `class_loss`.
        damage: share of the images of known class that were right and are wrong, whatever was gained.
    """

    loss: float
    group_loss: float
    class_loss: float
    false_positive_rise: float
    loser: int
    damage: float = 0.0


class Situation(NamedTuple):
    """The predictions of a classifier, and how the corrected class fares with it.

    Attributes:
        predicted: `[n]` int64, class of each image.
        errors: in every group.
    """

    predicted: Tensor
    errors: GroupErrors


def costs(
    before: Situation, after: Situation, targets: Tensor, target: int, groups: Groups, n_classes: int
) -> Costs:
    """Return the costs of going from one classifier to another.

    Args:
        before: as it is.
        after: corrected.
        targets: `[n]` int64, of the classifier's classes, `UNKNOWN` or `OUTSIDE`.
        target: the corrected class.
        groups: of the images; those that were added to the data count for `group_loss` alone.
        n_classes: of the classifier.
    """
    was, now, truth = (groups.of_data(t) for t in (before.predicted, after.predicted, targets))
    in_groups = (before.errors.others_right - after.errors.others_right)[~after.errors.error.isnan()]
    by_class = class_losses(was, now, truth, n_classes)
    others = others_than(truth, target)
    taken = (now == target)[others].double().mean() - (was == target)[others].double().mean()
    return Costs(
        loss=accuracy(was, truth) - accuracy(now, truth),
        group_loss=max(in_groups[~in_groups.isnan()].tolist(), default=-1.0),
        class_loss=float(by_class.max()),
        false_positive_rise=float(taken),
        loser=int(by_class.argmax()),
        damage=damage(was, now, truth),
    )


def damage(before: Tensor, after: Tensor, targets: Tensor) -> float:
    """Return the share of the images of known class that were right and are wrong; 0 without any.

    Args:
        before: `[n]` int64, predicted.
        after: `[n]` int64.
        targets: `[n]` int64; below 0 leaves the image out.

    Example:
        >>> damage(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
        0.333...
    """
    known = targets >= 0
    lost = (before == targets) & (after != targets)
    return float(lost[known].double().sum()) / max(1, int(known.sum()))


def class_losses(before: Tensor, after: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Return the accuracy that each class loses, with what chance may hide where its images are few.

    Let a class have `n` images, of which `lost` are right before and wrong after, and `gained` the reverse.
    Its loss is `d = (lost - gained) / n`. A class that loses on balance may lose more than its images show,
    so its loss is the upper end of an interval of one standard error,

        `d + sqrt((U - lost / n)^2 + (gained / n - L)^2)`,

    with Wilson's upper bound `U` of `lost / n` and lower bound `L` of `gained / n` (Newcombe 1998,
    doi 10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C; bounds that hold for few images).

    Args:
        before: `[n]` int64, predicted.
        after: `[n]` int64.
        targets: `[n]` int64; below 0 leaves the image out.
        n_classes: `C`.

    Returns:
        `[C]`, in [-1, 1]; -1 for a class without images.

    Example:
        >>> targets = torch.zeros(100, dtype=torch.long)
        >>> after = (torch.arange(100) < 2).long()  # 2 of 100 are lost
        >>> class_losses(targets, after, targets, 2)
        tensor([ 0.0395, -1.0000], dtype=torch.float64)
    """
    was, now = before == targets, after == targets
    known = targets >= 0

    def count(chosen: Tensor) -> Tensor:
        return torch.bincount(targets[known & chosen], minlength=n_classes).double()

    n, lost, gained = count(known), count(was & ~now) / count(known), count(now & ~was) / count(known)
    loss = lost - gained
    above = ((wilson(lost, n, 1) - lost) ** 2 + (gained - wilson(gained, n, -1)) ** 2).sqrt()
    return torch.where(loss > 0, loss + above, loss).nan_to_num(-1.0)
