"""Which of several corrected classifiers is taken, by their predictions on validation images."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.correction.groups import Groups, group_errors
from lightning_sae.zero_shot import accuracy

SHIFTS = 41  # values of the shift that are tried
MAX_LOSS = 0.01  # of accuracy on validation images


class Candidate(NamedTuple):
    """A classifier before its shift.

    Attributes:
        amount: how far the way goes: strength of an edit, part of the mean at which latents are clamped.
        logits: `[n, C]`, of the validation images.
    """

    amount: float
    logits: Tensor


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
        amount: of the candidate.
        shift: added to the logit of the class.
        worst: balanced error of the worst group.
        mean: of the balanced errors.
        accuracy: of all classes.
    """

    amount: float
    shift: float
    worst: float
    mean: float
    accuracy: float


def choose(
    candidates: Iterable[Candidate],
    as_it_is: Tensor,
    targets: Tensor,
    target: int,
    groups: Groups,
    max_loss: float = MAX_LOSS,
    min_group: int = 10,
) -> Choice | None:
    """The candidate and shift with the smallest balanced error in the worst group.

    Tried are `SHIFTS` even steps of the class's logit from -2 to 2 standard deviations of its margin, the
    logit minus the largest other one. Left out is what loses more than `max_loss` of the accuracy. Of equals
    the one with the smaller mean over the groups counts, then the smaller shift, then the smaller amount.

    Args:
        candidates: corrected classifiers.
        as_it_is: `[n, C]` logits of the classifier that is corrected.
        targets: `[n]` int64, -1 leaves an image out.
        target: the class that is led astray.
        groups: of the images.
        max_loss: of accuracy, in [0, 1].
        min_group: images; smaller groups are left out.

    Returns:
        `None` if nothing that is tried has a smaller error than the classifier as it is.
    """
    before = judge(as_it_is.argmax(1), targets, target, groups, min_group)
    best, key = None, (before.worst, before.mean, 0.0, 0.0)
    for amount, logits in candidates:
        others = logits.clone()
        others[:, target] = -torch.inf
        rival, runner_up = others.max(1)
        margin = logits[:, target] - rival
        for shift in (torch.linspace(-2, 2, SHIFTS, dtype=torch.float64) * margin.double().std()).tolist():
            found = judge(
                torch.where(margin + shift > 0, target, runner_up), targets, target, groups, min_group
            )
            mine = (found.worst, found.mean, abs(shift), amount)
            if found.accuracy >= before.accuracy - max_loss and mine < key:
                best, key = found._replace(amount=amount, shift=shift), mine
    return best if best is not None and best.worst < before.worst else None


def judge(predicted: Tensor, targets: Tensor, target: int, groups: Groups, min_group: int = 10) -> Choice:
    """The measures of a choice, for predictions `[n]`; amount and shift are 0."""
    errors = group_errors(predicted, targets, target, groups, min_group)
    return Choice(0.0, 0.0, errors.worst, float(errors.error.nanmean()), accuracy(predicted, targets))
