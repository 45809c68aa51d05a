"""Why nothing was chosen, and which option would change that."""

import math
from collections.abc import Iterable, Sequence

from lightning_sae.correct.choice import Choice, Choices, cost_of

PRICES = {
    "max_loss": "{cost:.2%} of the accuracy of all classes",
    "max_group_loss": "{cost:.2%} of the accuracy of the other classes in a group",
    "max_class_loss": "up to {cost:.2%} of the accuracy of {loser!r}",
    "max_false_positive_rise": "{cost:.2%} more of all other images taken for it",
}


def refusal(factor: str, tried: Iterable[tuple[str, Choices]], class_names: Sequence[str]) -> str:
    """Return a message with the costs of the best refused correction, and the options that allow it.

    The best is chosen among the corrections that exceed the fewest limits.

    Args:
        factor: factor whose groups the correction was to be chosen by.
        tried: ways, one at least, with the choices that they gave.
        class_names: of the classifier.
    """
    tried = list(tried)
    ways, worst = ", ".join(dict.fromkeys(way for way, _ in tried)), tried[0][1].worst
    refused = [(limits, way, choice) for way, found in tried for limits, choice in found.refused.items()]
    start = f"the balanced error of the worst group of {factor!r} is {worst:.1%} on val, and none of {ways}"
    if not refused:
        return (
            f"{start} lowers it: there is nothing to export. Try another --way, another --factor, or collect "
            "data as the finding advises"
        )
    limits, way, choice = min(refused, key=lambda found: (len(found[0]), found[2].order))
    prices = " and ".join(_price(choice, limit, class_names) for limit in limits)
    options = " ".join(_option(choice, limit) for limit in limits)
    return (
        f"{start} lowers it at a price that the rule allows. {way} would bring it to "
        f"{choice.order.worst:.1%} for {prices}: if it is worth that, add {options}"
    )


def _price(choice: Choice, limit: str, class_names: Sequence[str]) -> str:
    return PRICES[limit].format(cost=cost_of(choice.costs, limit), loser=class_names[choice.costs.loser])


def _option(choice: Choice, limit: str) -> str:
    """Return the option for a limit, with its cost rounded up, so that it is enough."""
    return f"--{limit.replace('_', '-')} {math.ceil(1e4 * cost_of(choice.costs, limit)) / 1e4:g}"
