"""Which of several corrected classifiers is taken, by their predictions on validation images."""

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
        max_loss: of the accuracy of all classes, in [0, 1].
        max_group_loss: of the accuracy of the other classes in any group, in [0, 1].
        max_class_loss: of the accuracy of any class, with what chance may hide of it, in [0, 1].
        max_false_positive_rise: of the share of all other images that are taken for the class, in [0, 1].
        min_group: images; smaller groups are left out.
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
        """Refuse what is no rule.

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
        """Return the limits that costs are above."""
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
        order: what it is chosen by.
        costs: of it.
    """

    amount: float
    shift: float
    order: Order
    costs: Costs


class Choices(NamedTuple):
    """Candidates that improve on a classifier as it is.

    Attributes:
        worst: balanced error of the worst group, as it is.
        best: the best that costs no more than the rule allows; `None` if there is none.
        refused: limits of the rule -> what is above these and no others, the best of it; nothing that is
            worse than `best`.
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

    It is the error of the worst group that counts, and up to `SAME` above the smallest is the same effect.
    The price must be one that `rule` allows. Tried are shifts of the class's logit by up to 2 standard
    deviations of its margin, the logit minus the largest other one. Only what has a smaller error than the
    classifier as it is counts. Damage is the share of the images that were right and are wrong; of equals the
    one with the smaller error is taken, then with the smaller mean over the groups, then the smaller shift,
    then the smaller amount. What is refused is the smallest error of its kind.

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
    """Return the choice that does least damage among those with the effect of the best; `None` of none.

    The effect is the error of the worst group; up to `SAME` above the smallest it is the same.

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
