"""When a change may have begun: shares of the wealth that wait for it."""

import math

EVERY = 50
"""Images from one possible start to the next."""

SCALE = 20
"""Starts up to which the shares hardly fall."""


def share(start: int) -> float:
    """Return the share of the wealth that is placed at a start, 0, 1, ...

    `SCALE / ((start + SCALE) (start + SCALE + 1))`: all shares sum to 1, so that the wealth of all starts
    together is that of one bet, and the late ones fall slowly enough to be of use.

    Example:
        >>> round(share(0), 4), round(share(200), 5)
        (0.0476, 0.00041)
    """
    return SCALE / ((start + SCALE) * (start + SCALE + 1))


def log_share(start: int) -> float:
    """Return the logarithm of `share`."""
    return math.log(share(start))


def log_reserve(starts: int) -> float:
    """Return the logarithm of the wealth that is not placed yet after so many starts.

    Example:
        >>> math.exp(log_reserve(0)), round(math.exp(log_reserve(1)), 4)
        (1.0, 0.9524)
    """
    return math.log(SCALE / (starts + SCALE))
