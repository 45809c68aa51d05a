"""Bets on the mean of numbers in [0, 1]: wealth that does not grow on average unless the mean leaves a bound.

Against a mean `m` the bet of odds `theta` multiplies wealth by `(1 + x (theta - 1)) / (1 + m (theta - 1))`
for each number `x`. It is Waudby-Smith and Ramdas's `1 + lambda (x - m)` with `lambda = (theta - 1) / (1 + m
(theta - 1))` (2023, *Estimating means of bounded random variables by betting*, arXiv 2010.09686), and for `x`
in {0, 1} the likelihood ratio of the rate whose odds are `theta` times those of `m`. With `theta > 1` its
mean is at most 1 for every mean up to `m`, with `theta < 1` for every mean from `m` on.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Array = NDArray[np.float64]

RISES = (1.6, 2.5, 6.0, 40.0)
FALLS = (0.5, 0.1)
ODDS = np.array([*RISES, *FALLS])
"""The bets on each mean, of equal shares of the wealth; large ones are for small means that vary little."""

_FINE = np.array([1.05, 1.1, 1.2, 1.35, 1.6, 2, 3, 5, 8, 15, 30, 60, 150, 500])
_FINE_FALLS = np.append(1 / _FINE, 1e-6)
_HALVINGS = 50


def gain(x: Array, odds: Array) -> Array:
    """Return the logarithm of the numerator of each bet, `log(1 + x (theta - 1))`, `[odds, ...]`."""
    return np.log1p(np.multiply.outer(odds - 1, x))


def price(mean: Array, odds: Array) -> Array:
    """Return the logarithm of the denominator of each bet, `log(1 + m (theta - 1))`, `[odds, ...]`."""
    return np.log1p(np.multiply.outer(odds - 1, mean))


def rate_bounds(count: Array, n: int, level: Array) -> tuple[Array, Array]:
    """Return bounds of a rate (Clopper and Pearson 1934).

    Args:
        count: how often of `n` times.
        n: at least 1.
        level: chance that a bound is on the wrong side of the rate, of each bound.

    Example:
        >>> low, high = rate_bounds(np.array([50.0]), 1000, np.array([0.025]))
        >>> low.round(3), high.round(3)
        (array([0.037]), array([0.065]))
    """
    low = np.where(count > 0, beta.ppf(level, np.maximum(count, 1), n - count + 1), 0.0)
    high = np.where(count < n, beta.isf(level, count + 1, np.maximum(n - count, 1)), 1.0)
    return low, high


def mean_bounds(rising: Array, falling: Array, n: int, level: Array) -> tuple[Array, Array]:
    """Return bounds of the mean of numbers in [0, 1]: between them no bet on it has won `1 / level`.

    Args:
        rising: `[14, ...]`, sums over the numbers of `gain` for `fine_odds()[0]`.
        falling: `[15, ...]`, for `fine_odds()[1]`.
        n: how many numbers.
        level: chance that a bound is on the wrong side of the mean, of each bound.

    Example:
        >>> rises, falls = fine_odds()
        >>> x = np.linspace(0.2, 0.4, 1000)
        >>> low, high = mean_bounds(gain(x, rises).sum(1), gain(x, falls).sum(1), 1000, np.array(0.025))
        >>> round(float(low), 2), round(float(high), 2)
        (0.29, 0.31)
    """
    low = _crossing(rising, _FINE, n, level, rises=True)
    high = _crossing(falling, _FINE_FALLS, n, level, rises=False)
    return low, high


def fine_odds() -> tuple[Array, Array]:
    """Return the odds whose gains `mean_bounds` takes."""
    return _FINE, _FINE_FALLS


def _crossing(gains: Array, odds: Array, n: int, level: Array, rises: bool) -> Array:
    """Return the mean at which the wealth of all bets together is `1 / level`, by halving [0, 1]."""
    left, right = np.zeros(gains.shape[1:]), np.ones(gains.shape[1:])
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        wealth = np.logaddexp.reduce(gains - n * price(middle, odds), axis=0) - np.log(len(odds))
        won = wealth >= -np.log(level)
        beyond = won if rises else ~won  # the bound lies at larger means
        left, right = np.where(beyond, middle, left), np.where(beyond, right, middle)
    return left if rises else right


def interval(mean: float, n: int, level: float = 0.05) -> tuple[float, float]:
    """Return an interval of the mean of `n` numbers in [0, 1] that needs nothing but their own mean.

    All `m` with `n KL(mean, m) <= log(2 / level)`, KL of two coins (Hoeffding 1963, Theorem 1).

    Example:
        >>> [round(end, 3) for end in interval(0.15, 500)]
        [0.11, 0.197]
    """
    if n == 0:
        return 0.0, 1.0
    ends = []
    for outer in (0.0, 1.0):
        inside, outside = mean, outer
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            if n * _divergence(mean, middle) <= np.log(2 / level):
                inside = middle
            else:
                outside = middle
        ends.append(inside)
    return ends[0], ends[1]


def _divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of a coin from another, in nats."""
    parts = ((p, q), (1 - p, 1 - q))
    with np.errstate(divide="ignore"):
        return float(sum(a * (np.log(a) - np.log(b)) for a, b in parts if a > 0))
