"""The runs that no other run beats in everything."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_sae.tracking.values import Goal


def pareto_front(values: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.bool_]:
    """Which rows are not dominated: no other row is as good in every goal and better in one.

    Args:
        values: `[n, m]`, a column per goal; a row with a NaN is never on the front.
        goals: the `m` goals.

    Returns:
        `[n]` bool; equal rows are on the front together.

    Example:
        >>> from lightning_sae.tracking.values import goal
        >>> pareto_front([[16, 0.03], [32, 0.01], [32, 0.02]], [goal("val/l0"), goal("val/fvu")]).tolist()
        [True, True, False]
    """
    costs = np.asarray(values, dtype=float) * [goal.sign for goal in goals]
    known = ~np.isnan(costs).any(1)
    front = np.zeros(len(costs), dtype=bool)
    for row in np.flatnonzero(known):
        as_good, better = (costs[known] <= costs[row]).all(1), (costs[known] < costs[row]).any(1)
        front[row] = not (as_good & better).any()
    return front
