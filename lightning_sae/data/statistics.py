"""Mean and scale of activations, without cancellation."""

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 16384  # rows per float64 copy


class ActivationStatistics(NamedTuple):
    """What the autoencoder centres and scales by.

    Attributes:
        mean: `[d_in]` float32, mean activation.
        scale: sqrt(d_in / E||x - mean||^2), gives the centred activations a mean square norm of d_in.
        n_tokens: number of activations behind both.
    """

    mean: Tensor
    scale: float
    n_tokens: int


class Moments(NamedTuple):
    """Centred sums of some rows, in float64.

    Attributes:
        n: rows.
        mean: `[d]`, their mean.
        spread: sum of ||x - mean||^2 over the rows, >= 0.
    """

    n: int
    mean: Tensor
    spread: float

    @classmethod
    def of(cls, x: Tensor) -> "Moments":
        """Moments of the rows of `x [n, d]`."""
        return reduce(merge_moments, (cls._of_chunk(chunk.double()) for chunk in torch.split(x, CHUNK)))

    @classmethod
    def _of_chunk(cls, x: Tensor) -> "Moments":
        mean = x.sum(0) / max(len(x), 1)  # a shard may have no rows: all of its images are bad
        return cls(len(x), mean, float((x - mean).square().sum()))

    def statistics(self) -> ActivationStatistics:
        """Mean and scale; `spread` must not be zero.

        Example:
            >>> mean, scale, n = Moments.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).statistics()
            >>> mean.tolist(), round(scale, 4), n
            ([2.0, 0.0], 1.4142, 2)
        """
        scale = math.sqrt(len(self.mean) * self.n / self.spread)
        return ActivationStatistics(self.mean.float(), scale, self.n)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two sets of rows (Chan, Golub, LeVeque 1983, *The American Statistician* 37).

    Example:
        >>> merge_moments(Moments.of(torch.tensor([[1.0]])), Moments.of(torch.tensor([[3.0]]))).spread
        2.0
    """
    n = max(a.n + b.n, 1)
    delta = b.mean - a.mean
    spread = a.spread + b.spread + float(delta.square().sum()) * a.n * b.n / n
    return Moments(a.n + b.n, a.mean + delta * (b.n / n), spread)
