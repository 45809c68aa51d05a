"""Intervals of shares."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T", Tensor, NDArray[np.float64])


def wilson(share: T, n: T, z: float) -> T:
    """Return the bound of a share that lies `z` standard errors above it, or below (Wilson 1927, JASA 22).

    `(share + z^2 / 2n + z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)`

    Args:
        share: of `n`, in [0, 1].
        n: at least 1.
        z: 1.96 and -1.96 are the ends of the 95 % interval.

    Example:
        >>> float(wilson(np.array(1.0), np.array(10.0), -1.96).round(3))
        0.722
    """
    spread: T = (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return (share + z**2 / (2 * n) + z * spread) / (1 + z**2 / n)
