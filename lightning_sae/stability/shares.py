"""How much of a dictionary recurs in another seed: of its latents, or of what they carry."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array
from scipy.stats import t

from lightning_sae.compare.matching import Array
from lightning_sae.stability.recurrence import Recurrence


class RecurringShare(NamedTuple):
    """A share that recurs in another seed, and its interval over seeds.

    Attributes:
        value: mean over every two runs; NaN where it is unknown.
        low: lower end, NaN for fewer than three runs.
        high: upper end, NaN for fewer than three runs.
    """

    value: float
    low: float
    high: float


def recurring_share(found: Recurrence, weights: Sequence[Array], confidence: float = 0.95) -> RecurringShare:
    """Return the share of a weight of latents that belongs to latents which recur in another dictionary.

    Args:
        found: of the dictionaries.
        weights: for each dictionary `[m]`, the weight of each compared latent as a share of the weight of all
            latents, `weights / total`; latents that were not compared only count in the total.
        confidence: coverage of the interval, in (0, 1).

    Example:
        >>> from lightning_sae.stability.recurrence import Dictionary, find_recurring
        >>> pairs = ([0, 1, 2], [2, 0, 3])
        >>> both = [Dictionary(np.eye(4)[some], csc_array(np.eye(4)[:, some])) for some in pairs]
        >>> recurring_share(find_recurring(both), [np.array([0.5, 0.25, 0.25])] * 2).value
        0.75
    """
    n = len(weights)
    shares = np.full((n, n), np.nan)
    for i, weight in enumerate(weights):
        shares[i, list(found.best[i])] = found.matched(i) @ weight
    return jackknife(shares, confidence)


def jackknife(shares: Array, confidence: float = 0.95) -> RecurringShare:
    """Return the mean of what every two runs have in common, with its jackknife interval over runs.

    Runs are left out one at a time, with all their pairs: pairs that have a run in common are not
    independent. The standard error is `sqrt((n - 1) / n sum_i (m_i - mean m)^2)`, `m_i` the mean without run
    `i`, the quantile that of Student's t with `n - 1` degrees of freedom. Efron and Stein 1981, Annals of
    Statistics 9; Arvesen 1969, Annals of Mathematical Statistics 40, for means over pairs. The interval is
    cut to [0, 1].

    Args:
        shares: `[n, n]`, share of each run that recurs in each other one; the diagonal does not count.
        confidence: coverage, in (0, 1).

    Example:
        >>> value, low, high = jackknife(np.array([[0, 0.5, 0.6], [0.5, 0, 0.7], [0.6, 0.7, 0]]))
        >>> round(value, 2), round(low, 2), round(high, 2)
        (0.6, 0.1, 1.0)
    """
    pairs = np.array(shares, dtype=float)
    np.fill_diagonal(pairs, 0)
    n, total = len(pairs), pairs.sum()
    value = total / (n * (n - 1))
    if n < 3:
        return RecurringShare(float(value), np.nan, np.nan)
    without = (total - pairs.sum(0) - pairs.sum(1)) / ((n - 1) * (n - 2))
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    reach = t.ppf((1 + confidence) / 2, n - 1) * error
    return RecurringShare(float(value), float(max(0, value - reach)), float(min(1, value + reach)))


def reconstruction_shares(directions: Array, activations: csc_array) -> Array:
    """Return the share of the variance of the reconstructions that each latent carries.

    `mean <a_j w_j - mean a_j w_j, x_hat - mean x_hat> / mean ||x_hat - mean x_hat||^2`: they add up to 1. A
    latent whose part others undo has a share below 0.

    Args:
        directions: `[m, d_in]`, all decoder rows in units of the activations.
        activations: `[n, m]`, on `n` images.

    Returns:
        `[m]`; NaN where all reconstructions are equal.

    Example:
        >>> reconstruction_shares(np.eye(2), csc_array([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])).round(2)
        array([0.8, 0.2])
    """
    x_hat = activations @ directions
    x_hat = x_hat - x_hat.mean(0)
    carried = ((activations.T @ x_hat) * directions).sum(1)
    total = (x_hat**2).sum()
    shares: Array = carried / total if total > 0 else np.full(len(carried), np.nan)
    return shares
