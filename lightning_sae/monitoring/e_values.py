"""Which of many tests reject, by their e-values: the e-BH procedure."""

import numpy as np
from numpy.typing import NDArray


def e_bh(log_e: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Return the tests that reject.

    The `k` largest of `m` e-values do, for the largest `k` with `e_(k) >= m / (k alpha)`. However the tests
    depend on each other, the false discovery rate is at most `alpha` (Wang and Ramdas 2022, *False discovery
    rate control with e-values*, arXiv 2009.02824); so it is with weights whose mean is 1.

    Args:
        log_e: `[m]`, logarithms, with those of their weights added.
        alpha: in (0, 1).

    Returns:
        `[m]`.

    Example:
        >>> e_bh(np.log([100.0, 31.0, 1.0]), alpha=0.05)
        array([ True,  True, False])
    """
    m = len(log_e)
    order = np.argsort(-log_e)
    enough = log_e[order] >= np.log(m / alpha) - np.log(np.arange(1, m + 1))
    rejected = np.zeros(m, dtype=bool)
    rejected[order[: int(np.flatnonzero(enough).max(initial=-1)) + 1]] = True
    return rejected
