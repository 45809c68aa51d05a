"""With the cue and without it: the sides on which removing latents is looked at."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.evidence.gaps import Factors
from lightning_sae.metrics import auroc

TELLS = 0.9  # AUROC of latents from which they stand for a value of a known factor
MOST = 0.25  # quantile of an activity that three of four images reach


class Sides(NamedTuple):
    """The images with a cue, and how images are divided to weigh a removal.

    Attributes:
        name: name of the cue as the value of a factor, such as `background=brown`; "" where the data do not
            know the cue, and the latents' own activity stands in for it.
        cue: `[n]` bool, images with the cue; where the activity stands in for it, those on which the latents
            are as active as on three of four wrong predictions.
        divides: `[n]` bool, one of the two parts that a removal is weighed on: images with the cue or, where
            the activity stands in for it, all images on which the latents are active. The errors must not
            choose the parts that they are weighed on.
    """

    name: str
    cue: Tensor
    divides: Tensor

    @property
    def known(self) -> bool:
        """True if the data say so, and not the latents alone."""
        return self.name != ""


def find_sides(activity: Tensor, others: Tensor, errors: Tensor, factors: Factors, min_group: int) -> Sides:
    """Return the value of a known factor that latents tell best, else where they are active.

    Args:
        activity: `[n]` >= 0, summed over the latents.
        others: `[n]` bool, images that are known not to show the class.
        errors: `[n]` bool, those of them that are predicted as the class.
        factors: factor -> (its values, `[n]` int64, -1 for none).
        min_group: images of the others that a value has, and lacks, at least.

    Example:
        >>> colour = {"colour": (["red", "blue"], torch.tensor([0, 0, 1, 1]))}
        >>> others = torch.ones(4, dtype=torch.bool)
        >>> sides = find_sides(torch.tensor([2.0, 1.0, 0.0, 0.5]), others, ~others, colour, 1)
        >>> sides.name, sides.cue.tolist()
        ('colour=red', [True, True, False, False])
    """
    told = told_value(activity, others, factors, min_group)
    if told is None:
        return Sides("", reached(activity, errors), torch.gt(activity, 0))
    has = factors[told.factor][1].to(activity.device) == told.place
    return Sides(f"{told.factor}={told.value}", has, has)


class ToldValue(NamedTuple):
    """A value of a known factor.

    Attributes:
        factor: as `background`.
        value: as `brown`.
        place: of the value among those of the factor.
    """

    factor: str
    value: str
    place: int


def told_value(activity: Tensor, others: Tensor, factors: Factors, min_group: int) -> ToldValue | None:
    """Return the value of a known factor that latents tell best, `None` if no AUROC is at least 0.9.

    The class itself is no cue.

    Args:
        activity: `[n]`, summed over the latents.
        others: `[n]` bool, images that are known not to show the class: the AUROC is over these.
        factors: factor -> (its values, `[n]` int64, -1 for none).
        min_group: images of the others that a value has, and lacks, at least.

    Example:
        >>> colour = {"colour": (["red", "blue"], torch.tensor([0, 0, 1, 1]))}
        >>> told_value(torch.tensor([2.0, 1.0, 0.0, 0.0]), torch.ones(4, dtype=torch.bool), colour, 1)
        ToldValue(factor='colour', value='red', place=0)
    """
    best, found = TELLS, None
    for factor, (values, truth) in factors.items():
        for v, value in enumerate(values) if factor != "class" else ():
            mine = truth.to(activity.device)[others] == v
            if min(int(mine.sum()), int((~mine).sum())) >= min_group:
                told = float(auroc(activity[others], mine))
                if told > best or (told == best and found is None):
                    best, found = told, ToldValue(factor, value, v)
    return found


def as_on_the_class(activity: Tensor, own: Tensor, others: Tensor) -> int:
    """Return the number of other images on which latents are as active as on three of four of the class.

    Where there are none, the class and what drives it always occur together, and nobody can say which of the
    two drives the score.

    Args:
        activity: `[n]` >= 0, summed over the latents.
        own: `[n]` bool, images of the class.
        others: `[n]` bool, images that are known not to show it.

    Example:
        >>> own = torch.tensor([True, True, True, True, False, False])
        >>> as_on_the_class(torch.tensor([5.0, 3.0, 2.0, 0.0, 4.0, 1.0]), own, ~own)
        1
    """
    return int((reached(activity, own) & others).sum()) if own.any() else 0


def reached(activity: Tensor, images: Tensor) -> Tensor:
    """Return the images on which latents are as active as on three of four of some chosen images.

    Args:
        activity: `[n]` >= 0.
        images: `[n]` bool; without any, or where these are silent, every activity above 0 counts.

    Example:
        >>> reached(torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0]), torch.tensor([True, True, True, True, False]))
        tensor([False,  True,  True,  True, False])
    """
    if not images.any():
        return torch.gt(activity, 0)
    return torch.gt(activity, 0) & (activity >= usual(activity[images]))


def usual(values: Tensor) -> float:
    """Return the value that three of four values reach.

    Example:
        >>> usual(torch.tensor([4.0, 1.0, 3.0, 2.0]))
        2.0
    """
    ordered = values.sort().values
    return float(ordered[math.ceil(MOST * (len(ordered) - 1))])
