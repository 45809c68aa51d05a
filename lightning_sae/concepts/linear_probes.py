"""Directions that tell what the data know: one linear probe for each value of a factor, in closed form."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

Floats = NDArray[np.float64]

RIDGE = (
    1e-3  # of the mean variance: a direction that never varies within the values may tell them all the same
)


class LinearProbes(NamedTuple):
    """A probe for each value: `x` has it where `<x, direction> + bias > 0`.

    Attributes:
        directions: `[n_values, d_in]` of unit norm; NaN for a value that is not probed.
        biases: `[n_values]`; NaN for a value that is not probed.
    """

    directions: Floats
    biases: Floats


def linear_probes(x: Floats, labels: NDArray[np.int64], n_values: int, min_images: int = 5) -> LinearProbes:
    """Return Fisher's linear discriminant of each value against all other images.

    `direction ~ S^-1 (m_1 - m_0)`, with the means `m` of the images with and without the value; the bias puts
    the boundary between the two. `S` is the covariance within the values of the factor, where images without
    a value count as one more value. It is shrunk as Ledoit and Wolf 2004 do
    (`sklearn.covariance.ledoit_wolf`), plus a small ridge. All values share this one matrix, so 1,000 of them
    cost one decomposition.

    Args:
        x: `[n, d_in]`, a row per image.
        labels: `[n]` value of each image, -1 for none.
        n_values: number of values.
        min_images: with the value and without it; a value with fewer is not probed.

    Example:
        >>> x = np.array([[0.0, 1], [0, -1], [0, 1], [0, -1], [2, 1], [2, -1], [2, 1], [2, -1]])
        >>> found = linear_probes(x, np.repeat([-1, 0], 4), n_values=1, min_images=4)
        >>> found.directions.round(3).tolist(), (found.biases.round(3) + 0).tolist()
        ([[1.0, 0.0]], [-1.0])
    """
    n, counts = len(labels), np.bincount(labels + 1, minlength=n_values + 1)
    sums = np.zeros((n_values + 1, x.shape[1]))
    np.add.at(sums, labels + 1, x)
    with np.errstate(invalid="ignore"):
        means = sums / counts[:, None]
        rest = (sums.sum(0) - sums[1:]) / (n - counts[1:, None])
    covariance, _ = ledoit_wolf(x - means[labels + 1], assume_centered=True)
    difference, middle = means[1:] - rest, (means[1:] + rest) / 2
    enough = np.minimum(counts[1:], n - counts[1:]) >= min_images
    directions = np.full_like(difference, np.nan)
    variance = np.trace(covariance) / len(covariance)
    covariance += (RIDGE * variance or 1.0) * np.eye(len(covariance))
    directions[enough] = np.linalg.solve(covariance, difference[enough].T).T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return LinearProbes(directions, -(directions * middle).sum(1))
