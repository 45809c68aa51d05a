"""How much of what arrives at a score flows through each node and edge of a graph, signs dropped."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Influence(NamedTuple):
    """The influence of nodes and edges on an output.

    Attributes:
        nodes: `[N]` >= 0, over all paths to the output.
        edges: `[E]` >= 0, that of the target that comes along the edge.
        shares: `[E]` in 0..1, of the magnitudes that arrive at the target.
    """

    nodes: Floats
    edges: Floats
    shares: Floats


def influence(source: Ints, target: Ints, weight: Floats, output: Floats) -> Influence:
    """Return `y (A + A^2 + ...)`, `A` the magnitudes of the edges into each node, as shares of their sum.

    Ameisen et al. 2025, *Circuit Tracing: Revealing Computational Graphs in Language Models*,
    transformer-circuits.pub, "graph pruning"; as in circuit-tracer.

    Args:
        source: `[E]` node that each edge comes from.
        target: `[E]` node that it leads to; there are no circles.
        weight: `[E]`, of any sign.
        output: `[N]`, `y`: the weight of each node as an output.

    Example:
        >>> weights = np.array([-3.0, 1.0, 5.0])
        >>> found = influence(np.array([0, 1, 2]), np.array([2, 2, 3]), weights, np.eye(4)[3])
        >>> found.nodes.tolist(), found.edges.tolist()
        ([0.75, 0.25, 1.0, 0.0], [0.75, 0.25, 1.0])
    """
    n, shares = len(output), arriving_shares(target, weight, len(output))
    total, now = np.zeros(n), output.astype(np.float64)
    while now.any():
        now = sums_at(source, shares * now[target], n)
        total += now
    return Influence(total, shares * (total + output)[target], shares)


def arriving_shares(target: Ints, weight: Floats, n: int) -> Floats:
    """Return the magnitude of each edge as a share of all that arrive at its target, `[E]`; `n` nodes."""
    magnitude = np.abs(weight)
    arriving = sums_at(target, magnitude, n)[target]
    return np.divide(magnitude, arriving, out=np.zeros_like(magnitude), where=arriving > 0)


def sums_at(node: Ints, values: Floats, n: int) -> Floats:
    """Return the sums of values by node, `[n]`."""
    return np.bincount(node, values, n).astype(np.float64)


def largest(values: Floats, share: float, most: int | None = None) -> NDArray[np.bool_]:
    """Return the fewest values that make up a share of their sum.

    Args:
        values: `[n]` >= 0.
        share: in (0, 1].
        most: no more than these, the largest; `None`: as many as it takes.

    Returns:
        `[n]` bool; values of 0 are never among them.

    Raises:
        ValueError: another share.

    Example:
        >>> largest(np.array([1.0, 6.0, 3.0]), 0.8).tolist()
        [False, True, True]
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of the influence must be in (0, 1], got {share}")
    order = np.argsort(-values, kind="stable")
    before = np.cumsum(values[order]) - values[order]
    kept = np.zeros(len(values), dtype=bool)
    kept[order[:most]] = before[:most] < share * values.sum() * (1 - 1e-12)
    return kept & (values > 0)
