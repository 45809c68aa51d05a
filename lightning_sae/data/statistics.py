"""Mean and scale of activations, without cancellation."""

import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.metrics.moments import centred_moments, merge_moments

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
        """Moments of the rows of `x [n, d]`; a shard may have none, where all of its images are bad."""
        return cls.union(cls._unpacked(centred_moments(chunk)) for chunk in torch.split(x, CHUNK))

    @classmethod
    def union(cls, parts: Iterable["Moments"]) -> "Moments":
        """Moments of all rows of one or more parts.

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
        """Mean and scale; `spread` must not be zero.

        Example:
            >>> mean, scale, n = Moments.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).statistics()
            >>> mean.tolist(), round(scale, 4), n
            ([2.0, 0.0], 1.4142, 2)
        """
        scale = math.sqrt(len(self.mean) * self.n / self.spread)
        return ActivationStatistics(self.mean.float(), scale, self.n)
