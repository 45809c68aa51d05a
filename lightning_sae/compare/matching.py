"""Which concepts two runs share: latents matched one to one by the images on which they fire."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csc_array, csr_array

from lightning_sae.types import SparseLatents

Array = NDArray[np.float64]
MIN_IMAGES = 10  # a latent that fires on fewer is not matched: two rare latents meet by chance


class Matching(NamedTuple):
    """A one-to-one matching of two sets of latents.

    Attributes:
        first: `[m]` int64, rows of the first set.
        second: `[m]` int64, their partners in the second.
        correlation: `[m]` in [-1, 1], of their activations.
        nearest_first: `[m_1]`, the largest correlation of each latent with any of the second set.
        nearest_second: `[m_2]`, with any of the first set.
        same: correlation above which partners are the same concept; within one set, only 5 % of the latents
            have another one above it.
        apart: correlation up to which a latent has nothing like it in the other set: the median within one
            set.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    correlation: Array
    nearest_first: Array
    nearest_second: Array
    same: float
    apart: float


def sparse_columns(latents: SparseLatents, which: NDArray[np.int64]) -> csc_array:
    """Return the activations of some latents on `n` images, `[n, len(which)]`, sparse."""
    parts = (latents.values.double().numpy(), latents.indices.numpy(), latents.offsets.numpy())
    return csc_array(csr_array(parts, shape=(len(latents), latents.d_sae)))[:, which]


def firing_correlation(first: csc_array, second: csc_array) -> Array:
    """Return Pearson correlation of the activations of every pair of latents, silence counted as 0.

    `r_ij = (mean a_i b_j - mean a_i * mean b_j) / (sd a_i * sd b_j)`, means over the same `n` images.

    Args:
        first: `[n, m_1]` activations.
        second: `[n, m_2]` activations on the same images.

    Returns:
        `[m_1, m_2]` in [-1, 1]; 0 where one is constant.

    Example:
        >>> a = csc_array(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 2.0]]))
        >>> firing_correlation(a, a).round(6).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    n = first.shape[0]
    (mean_1, sd_1), (mean_2, sd_2) = _moments(first), _moments(second)
    covariance = (first.T @ second).toarray() / n - np.outer(mean_1, mean_2)
    scale = np.outer(sd_1, sd_2)
    zeros = np.zeros_like(covariance)
    correlation: Array = np.divide(covariance, scale, out=zeros, where=scale > 0).clip(-1, 1)
    return correlation


def _moments(activations: csc_array) -> tuple[Array, Array]:
    n = activations.shape[0]
    mean = np.asarray(activations.sum(0)).ravel() / n
    square = np.asarray(activations.multiply(activations).sum(0)).ravel() / n
    variance = square - mean**2
    return mean, np.sqrt(np.where(variance > 1e-12 * square, variance, 0.0))


def match_latents(first: csc_array, second: csc_array, quantile: float = 0.95) -> Matching:
    """Match latents so that the sum of their correlations is largest, and find limits to judge them by.

    The assignment is optimal (`scipy.optimize.linear_sum_assignment`). The null is the correlation with the
    nearest latent where the right one is absent: the largest correlation of each latent with another of its
    own set, both sets together. Concepts occur together in images, so the null lies far above that of
    shuffled images.

    Args:
        first: `[n, m_1]` activations, at least two latents.
        second: `[n, m_2]` activations on the same images, at least two latents.
        quantile: of the null, above which partners are the same.

    Example:
        >>> x = csc_array(np.eye(4)[:, :3])
        >>> found = match_latents(x, x[:, [2, 0]])
        >>> found.first.tolist(), found.second.tolist(), found.nearest_first.round(2).tolist()
        ([0, 2], [1, 0], [1.0, -0.33, 1.0])
    """
    correlation = firing_correlation(first, second)
    null = np.concatenate([_nearest_other(first), _nearest_other(second)])
    rows, partners = linear_sum_assignment(correlation, maximize=True)
    return Matching(
        rows,
        partners,
        correlation[rows, partners],
        correlation.max(1),
        correlation.max(0),
        float(np.quantile(null, quantile)),
        float(np.quantile(null, 0.5)),
    )


def _nearest_other(activations: csc_array) -> Array:
    correlation = firing_correlation(activations, activations)
    np.fill_diagonal(correlation, -1.0)
    nearest: Array = correlation.max(1)
    return nearest
