"""The order of nodes in columns, so that few edges cross."""

from collections.abc import Sequence

import numpy as np

from lightning_sae.attribution.edges.influence import Floats, Ints, sums_at

SWEEPS = 12


def barycentre_order(columns: Sequence[Ints], source: Ints, target: Ints, weight: Floats) -> list[Ints]:
    """Return the nodes of each column in an order with few crossings.

    Sweeps from left to right and back put each node at the mean place of the nodes that it is linked to,
    weighted by the edges (Sugiyama, Tagawa and Toda 1981); the order with the fewest crossings is returned.

    Args:
        columns: nodes of each column in `0..n-1`, from left to right, in the order to begin with.
        source: `[E]`, node in a column.
        target: `[E]`, node in the next column.
        weight: `[E]` > 0; two edges that cross count as the product of their weights.

    Example:
        >>> columns = [np.array([0, 1]), np.array([2, 3])]
        >>> crossed = np.array([0, 1]), np.array([3, 2]), np.ones(2)
        >>> [column.tolist() for column in barycentre_order(columns, *crossed)]
        [[0, 1], [3, 2]]
    """
    n = sum(map(len, columns))
    order, best, least = [*columns], [*columns], np.inf
    for sweep in range(SWEEPS + 1):
        place = _places(order, n)
        if (crossed := crossings(place, source, target, weight)) < least:
            best, least = [*order], crossed
        back = sweep % 2 == 1
        mine, other = (source, target) if back else (target, source)
        for c in reversed(range(len(order) - 1)) if back else range(1, len(order)):
            place = _places(order, n)
            pull = sums_at(mine, weight, n)
            mean = np.divide(sums_at(mine, weight * place[other], n), pull, out=place.copy(), where=pull > 0)
            order[c] = order[c][np.argsort(mean[order[c]], kind="stable")]
    return best


def crossings(place: Floats, source: Ints, target: Ints, weight: Floats) -> float:
    """Return how much edges between two columns cross, the sum of the products of their weights.

    Args:
        place: `[n]` place of each node in its column; columns that follow each other do not share places.
        source: `[E]`, node in a column.
        target: `[E]`, node in the next column.
        weight: `[E]`, weight of each edge.
    """
    total = 0.0
    a, b = place[source], place[target]
    column = np.floor(a / 2)
    for c in np.unique(column):
        own = column == c
        before = (a[own][:, None] < a[own]) & (b[own][:, None] > b[own])
        total += float(weight[own] @ before @ weight[own])
    return total


def _places(order: Sequence[Ints], n: int) -> Floats:
    """Return the place of each node: in 0..1 from the top of its column, plus twice the column's number."""
    place = np.zeros(n)
    for c, column in enumerate(order):
        place[column] = 2 * c + (np.arange(len(column)) + 0.5) / max(1, len(column))
    return place
