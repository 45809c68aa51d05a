"""Moments about the mean, of parts that are merged: mean and scale of activations without cancellation."""

import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor


def centred_moments(x: Tensor) -> Tensor:
    """Return the number of rows, sum of squares about the mean, and the mean, packed as `[2 + d_in]` float64.

    Example:
        >>> centred_moments(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist()
        [2.0, 2.0, 2.0, 0.0]
    """
    x = x.double()
    mean = x.mean(0) if len(x) else x.sum(0)
    count = torch.tensor([len(x)], dtype=x.dtype, device=x.device)
    return torch.cat([count, (x - mean).square().sum()[None], mean])


def merge_moments(moments: Tensor) -> Tensor:
    """Merge the centred moments of parts, `[parts, 2 + d_in]` -> `[2 + d_in]`, without cancellation.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances".

    Example:
        >>> parts = [centred_moments(torch.tensor([[value]])) for value in (1.0, 3.0)]
        >>> merge_moments(torch.stack(parts)).tolist()
        [2.0, 2.0, 2.0]
    """
    counts, squares, means = moments[:, :1], moments[:, 1], moments[:, 2:]
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total.clamp_min(1)
    squares = squares.sum() + (counts * (means - mean).square()).sum()
    return torch.cat([total, squares[None], mean])


CHUNK = 16384  # rows per float64 copy


class ActivationStatistics(NamedTuple):
    """The mean and scale that the autoencoder centres and scales by.

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
        """Return the moments of the rows of `x [n, d]`.

        A shard may have no rows, where all of its images are bad.
        """
        return cls.union(cls._unpacked(centred_moments(chunk)) for chunk in torch.split(x, CHUNK))

    @classmethod
    def union(cls, parts: Iterable["Moments"]) -> "Moments":
        """Return the moments of all rows of one or more parts.

        Example:
            >>> Moments.union([Moments.of(torch.tensor([[1.0]])), Moments.of(torch.tensor([[3.0]]))]).spread
            2.0
        """
        return cls._unpacked(
            reduce(lambda a, b: merge_moments(torch.stack([a, b])), (part._packed() for part in parts))
        )

    def _packed(self) -> Tensor:
        return torch.cat(
            [self.mean.new_tensor([self.n, self.spread], dtype=torch.float64), self.mean.double()]
        )

    @classmethod
    def _unpacked(cls, packed: Tensor) -> "Moments":
        return cls(int(packed[0]), packed[2:], float(packed[1]))

    def statistics(self) -> ActivationStatistics:
        """Return the mean and scale; `spread` must not be zero.

        Example:
            >>> mean, scale, n = Moments.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).statistics()
            >>> mean.tolist(), round(scale, 4), n
            ([2.0, 0.0], 1.4142, 2)
        """
        scale = math.sqrt(len(self.mean) * self.n / self.spread)
        return ActivationStatistics(self.mean.float(), scale, self.n)
