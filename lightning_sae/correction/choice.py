"""Which of several corrected classifiers is taken, by their predictions on validation images."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.correction.groups import GroupErrors, Groups, group_errors
from lightning_sae.zero_shot import accuracy

SHIFTS = [step / 10 for step in range(-20, 21)]  # of the class's logit, in standard deviations of its margin


class Rule(NamedTuple):
    """What a correction may cost on the validation images.

    Attributes:
        max_loss: of the accuracy of all classes, in [0, 1].
        max_group_loss: of the accuracy of the other classes in any group, in [0, 1].
        min_group: images; smaller groups are left out.
    """

    max_loss: float = 0.01
    max_group_loss: float = 0.1
    min_group: int = 10

    def check(self) -> None:
        """Refuses what is no rule.

        Raises:
            ValueError: a share outside of 0..1, or groups of no images.
        """
        if not (0 <= self.max_loss <= 1 and 0 <= self.max_group_loss <= 1) or self.min_group < 1:
            raise ValueError(
                "max_loss and max_group_loss are shares and must be in 0..1, min_group at least 1; got "
                f"{self.max_loss}, {self.max_group_loss} and {self.min_group}"
            )


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
    """

    amount: float
    shift: float
    worst: float
    mean: float


class _Judged(NamedTuple):
    errors: GroupErrors
    accuracy: float

    @property
    def worst(self) -> float:
        return self.errors.worst

    @property
    def mean(self) -> float:
        return float(self.errors.error.nanmean())

    def costs_too_much(self, before: "_Judged", rule: Rule) -> bool:
        lost = (before.errors.others_right - self.errors.others_right)[~self.errors.error.isnan()]
        return before.accuracy - self.accuracy > rule.max_loss or bool((lost > rule.max_group_loss).any())


def choose(
    candidates: Iterable[Candidate],
    as_it_is: Tensor,
    targets: Tensor,
    target: int,
    groups: Groups,
    rule: Rule,
) -> Choice | None:
    """The candidate and shift with the smallest balanced error in the worst group.

    Tried are shifts of the class's logit by up to 2 standard deviations of its margin, the logit minus the
    largest other one. Left out is what costs more than the rule allows. Of equals the one with the smaller
    mean over the groups counts, then the smaller shift, then the smaller amount.

    Args:
        candidates: corrected classifiers.
        as_it_is: `[n, C]` logits of the classifier that is corrected.
        targets: `[n]` int64, of the classifier's classes, `UNKNOWN` or `OUTSIDE`.
        target: the class that is led astray.
        groups: of the images.
        rule: what it may cost.

    Returns:
        `None` if nothing that is tried has a smaller error than the classifier as it is.
    """

    def judge(predicted: Tensor) -> _Judged:
        errors = group_errors(predicted, targets, target, groups, rule.min_group)
        return _Judged(errors, accuracy(groups.of_data(predicted), groups.of_data(targets)))

    before = judge(as_it_is.argmax(1))
    best: Choice | None = None
    key = (before.worst, torch.inf, torch.inf, torch.inf)
    for amount, logits in candidates:
        others = logits.clone()
        others[:, target] = -torch.inf
        rival, runner_up = others.max(1)
        margin = logits[:, target] - rival
        spread = float(margin.std())
        for shift in (spread * step for step in SHIFTS):
            found = judge(torch.where(margin + shift > 0, target, runner_up))
            mine = (found.worst, found.mean, abs(shift), amount)
            if found.worst < before.worst and mine < key and not found.costs_too_much(before, rule):
                best, key = Choice(amount, shift, found.worst, found.mean), mine
    return best
