"""The choice among several corrected classifiers, by their predictions on validation images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.correct.costs import Costs, Situation, costs
from lightning_sae.metrics.group_errors import Groups, group_errors

SAME = 0.01  # errors of the worst group that differ by no more are the same effect
SHIFTS = [step / 10 for step in range(-20, 21)]  # of the class's logit, in standard deviations of its margin


class Rule(NamedTuple):
    """The limits of what a correction may cost on the validation images.

    Attributes:
        max_loss: largest loss of accuracy over all classes, in [0, 1].
        max_group_loss: largest loss of the accuracy of the other classes in any group, in [0, 1].
        max_class_loss: largest loss of the accuracy of any class, with what chance may hide, in [0, 1].
        max_false_positive_rise: largest rise of the share of other images taken for the class, in [0, 1].
        min_group: number of images below which a group is left out.
    """

    max_loss: float = 0.01
    max_group_loss: float = 0.1
    max_class_loss: float = 0.03
    max_false_positive_rise: float = 0.0
    min_group: int = 10

    @property
    def limits(self) -> dict[str, float]:
        """The largest value that each of the costs may have, by the name of the limit."""
        return {name: value for name, value in self._asdict().items() if name != "min_group"}

    def check(self) -> None:
        """Refuse a rule whose values are out of range.

        Raises:
            ValueError: a share outside of 0..1, or groups of no images.
        """
        wrong = {name: value for name, value in self.limits.items() if not 0 <= value <= 1}
        if wrong or self.min_group < 1:
            raise ValueError(
                f"{', '.join(self.limits)} are shares and must be in 0..1, min_group at least 1; got "
                f"{wrong or self.min_group}"
            )

    def exceeded(self, found: Costs) -> tuple[str, ...]:
        """Return the names of the limits that the costs exceed."""
        return tuple(name for name, most in self.limits.items() if cost_of(found, name) > most)


def cost_of(found: Costs, limit: str) -> float:
    """Return the cost that a limit of `Rule` is for.

    Example:
        >>> cost_of(Costs(0.01, 0.02, 0.03, 0.04, loser=0), "max_class_loss")
        0.03
    """
    return float(getattr(found, limit.removeprefix("max_")))


class Candidate(NamedTuple):
    """A classifier before its shift.

    Attributes:
        amount: how far the way goes: strength of an edit, part of the mean at which latents are clamped.
        logits: `[n, C]`, of the validation images.
    """

    amount: float
    logits: Tensor


class Order(NamedTuple):
    """The key that candidates are ordered by, the smallest first.

    Attributes:
        worst: balanced error of the worst group.
        mean: of the balanced errors of the groups.
        shift: without its sign.
        amount: of the candidate.
    """

    worst: float
    mean: float
    shift: float
    amount: float


class Choice(NamedTuple):
    """A candidate with its shift, and what it does.

    Attributes:
        amount: of the candidate.
        shift: added to the logit of the class.
        order: key that choices are ordered by.
        costs: costs of the choice.
    """

    amount: float
    shift: float
    order: Order
    costs: Costs


class Choices(NamedTuple):
    """Candidates that improve on a classifier as it is.

    Attributes:
        worst: balanced error of the worst group by the classifier as it is.
        best: the best choice that costs no more than the rule allows; `None` if there is none.
        refused: limits of the rule -> the best choice that exceeds these limits and no others; choices that
            are no better than `best` are left out.
    """

    worst: float
    best: Choice | None
    refused: Mapping[tuple[str, ...], Choice]


def choose(
    candidates: Iterable[Candidate],
    as_it_is: Tensor,
    targets: Tensor,
    target: int,
    groups: Groups,
    rule: Rule,
) -> Choices:
    """Return the candidate and shift that do least damage among those with the smallest balanced error.

    Each candidate is tried with shifts of the class's logit by up to 2 standard deviations of its margin,
    which is the logit minus the largest other one. The error is that of the worst group; it must be smaller
    than that of the classifier as it is, and errors up to `SAME` above the smallest one count as equal. The
    price must be one that `rule` allows. Damage is the share of the images that were right and are wrong.
    Ties in damage go to the smaller error, then to the smaller mean over the groups, then to the smaller
    shift, then to the smaller amount. Among refused choices that exceed the same limits, the one with the
    smallest error is kept.

    Args:
        candidates: corrected classifiers.
        as_it_is: `[n, C]` logits of the classifier that is corrected.
        targets: `[n]` int64, of the classifier's classes, `UNKNOWN` or `OUTSIDE`.
        target: the class that is led astray.
        groups: of the images.
        rule: what it may cost.
    """

    def situation(predicted: Tensor) -> Situation:
        return Situation(predicted, group_errors(predicted, targets, target, groups, rule.min_group))

    before = situation(as_it_is.argmax(1))
    best: dict[tuple[str, ...], Choice] = {}
    allowed: list[Choice] = []
    for amount, logits in candidates:
        for shift, predicted in _shifted(logits, target):
            after = situation(predicted)
            order = Order(after.errors.worst, float(after.errors.error.nanmean()), abs(shift), amount)
            if not order.worst < before.errors.worst:
                continue
            price = costs(before, after, targets, target, groups, logits.shape[1])
            found, above = Choice(amount, shift, order, price), rule.exceeded(price)
            if not above:
                allowed.append(found)
            elif above not in best or found.order < best[above].order:
                best[above] = found
    chosen = least_damage(allowed)
    refused = {limits: one for limits, one in best.items() if chosen is None or one.order < chosen.order}
    return Choices(before.errors.worst, chosen, refused)


def least_damage(choices: Sequence[Choice]) -> Choice | None:
    """Return the choice that does least damage among those as good as the best; `None` without choices.

    A choice is as good as the best if the error of its worst group is at most `SAME` above the smallest one.

    Example:
        >>> def choice(worst, damage):
        ...     return Choice(1.0, 0.0, Order(worst, worst, 0.0, 1.0), Costs(0, 0, 0, 0, 0, damage))
        >>> least_damage([choice(0.100, 0.03), choice(0.105, 0.01), choice(0.12, 0.0)]).order.worst
        0.105
    """
    smallest = min((choice.order.worst for choice in choices), default=0.0)
    same = (choice for choice in choices if choice.order.worst <= smallest + SAME)
    return min(same, key=lambda choice: (choice.costs.damage, choice.order), default=None)


def _shifted(logits: Tensor, target: int) -> Iterator[tuple[float, Tensor]]:
    """Yield the class of each image, for every shift of one class's logit."""
    others = logits.clone()
    others[:, target] = -torch.inf
    rival, runner_up = others.max(1)
    margin = logits[:, target] - rival
    spread = float(margin.std())
    for shift in (spread * step for step in SHIFTS):
        yield shift, torch.where(margin + shift > 0, target, runner_up)
