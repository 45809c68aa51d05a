"""Groups of images that a reliance treats unlike, and the balanced error of a class in each of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NONE = "none"
UNKNOWN, OUTSIDE = -1, -2
"""Targets of an image of which the class is not known, and of one that is of none of the classes."""


class Groups(NamedTuple):
    """Groups that divide the images.

    Attributes:
        name: of the factor, as `background`; `culprits` for groups by the activity of culprits.
        values: its values.
        of: `[n]` int64, the value of each image.
        added: how many images, the last ones, are not from the data but have had a word printed on them:
            they count in the groups, not for the accuracy of all classes.
    """

    name: str
    values: Sequence[str]
    of: Tensor
    added: int = 0

    def of_data(self, values: Tensor) -> Tensor:
        """Return the part of `[n]` values that belongs to images of the data."""
        return values[: len(self.of) - self.added]


class GroupErrors(NamedTuple):
    """The errors of a class in each of `V` groups.

    Attributes:
        own: `[V]` int64, images of the class.
        others: `[V]` int64, images of other classes.
        miss: `[V]` in [0, 1], share of the class's images that are predicted as another; NaN without any.
        false_positives: `[V]`, share of the others that are predicted as the class; NaN without any.
        others_right: `[V]`, share of the others of known class that are predicted right; NaN without any.
        error: `[V]`, the balanced error; NaN for a group that is left out.
    """

    own: Tensor
    others: Tensor
    miss: Tensor
    false_positives: Tensor
    others_right: Tensor
    error: Tensor

    @property
    def worst(self) -> float:
        """The largest balanced error; NaN without groups."""
        known = self.error[~self.error.isnan()]
        return float(known.max()) if len(known) else float("nan")


def group_errors(
    predicted: Tensor, targets: Tensor, target: int, groups: Groups, min_group: int = 10
) -> GroupErrors:
    """Return the balanced error of one class in every group.

    `error_v = (miss_v + false_positives_v) / 2`. A group with fewer than `min_group` images of other classes
    is left out. Where a group has fewer of the class itself, `miss` over all groups takes the place of
    `miss_v`, so that the rare pair of a class and a printed word counts by its false positives.

    Args:
        predicted: `[n]` int64, class of each image.
        targets: `[n]` int64; `UNKNOWN` leaves the image out, `OUTSIDE` is one of the others.
        target: the class.
        groups: of the same images.
        min_group: images.

    Example:
        >>> colour = Groups("colour", ["red", "blue"], torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> truth = torch.tensor([0, 1, 1, 0, 0, 1])
        >>> group_errors(torch.tensor([0, 0, 1, 1, 0, 1]), truth, 0, colour, min_group=1).error
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    n = len(groups.values)
    own, others, hit = targets == target, others_than(targets, target), predicted == target

    def share(chosen: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(groups.of[chosen], minlength=n)
        return counts, torch.bincount(groups.of[chosen], counted[chosen].double(), minlength=n) / counts

    n_own, miss = share(own, ~hit)
    n_others, false_positives = share(others, hit)
    _, others_right = share(others & (targets >= 0), predicted == targets)
    overall = (~hit)[own].double().mean()
    error = (torch.where(n_own >= min_group, miss, overall) + false_positives) / 2
    error = error.where(n_others >= min_group, torch.nan)
    return GroupErrors(n_own, n_others, miss, false_positives, others_right, error)


def others_than(targets: Tensor, target: int) -> Tensor:
    """Return `[n]` bool, images that are known not to be of a class."""
    return (targets != target) & (targets != UNKNOWN)


def factor_groups(name: str, values: Sequence[str], truth: Tensor) -> Groups:
    """Return a group for each value of a known factor; images without a value are one more group.

    Example:
        >>> factor_groups("word", ["star"], torch.tensor([0, -1]))
        Groups(name='word', values=['star', 'none'], of=tensor([0, 1]), added=0)
    """
    if not bool((truth < 0).any()):
        return Groups(name, list(values), truth)
    return Groups(name, [*values, NONE], torch.where(truth < 0, len(values), truth))


def one_against_rest(groups: Groups, value: str) -> Groups:
    """Return two groups: the images with one value, and all others.

    Raises:
        ValueError: no such value.

    Example:
        >>> one_against_rest(Groups("colour", ["red", "blue", "green"], torch.tensor([0, 1, 2])), "blue")
        Groups(name='colour', values=['blue', 'not blue'], of=tensor([1, 0, 1]), added=0)
    """
    if value not in groups.values:
        raise ValueError(f"{groups.name} has no value {value!r}: take one of {', '.join(groups.values)}")
    others = groups.of != list(groups.values).index(value)
    return Groups(groups.name, [value, f"not {value}"], others.long())


def culprit_groups(activations: Tensor) -> Groups:
    """Return two groups: images where no culprit is active, and where any is; `activations [n, m]`."""
    return Groups("culprits", ["silent", "active"], (activations > 0).any(1).long())
