"""Sums by pairs of a target and a source: only pairs that occur exist."""

from typing import NamedTuple

import torch
from torch import Tensor

BUFFER = 1 << 20  # values that wait to be summed


class Pairs(NamedTuple):
    """Values of pairs of a target and a source.

    Attributes:
        target: `[e]` int64.
        source: `[e]` int64.
        value: `[e]`.
    """

    target: Tensor
    source: Tensor
    value: Tensor


class PairSums:
    """Sums of values by pair, in float64; memory grows with the pairs that occur.

    Args:
        n_sources: sources are in `0..n_sources-1`.
        limit: pairs that may be kept.

    Example:
        >>> sums = PairSums(n_sources=10)
        >>> for value in (1.0, 2.0):
        ...     sums.add(Pairs(torch.tensor([3, 0]), torch.tensor([7, 7]), torch.tensor([value, 0.5])))
        >>> sums.pairs()
        Pairs(target=tensor([0, 3]), source=tensor([7, 7]), value=tensor([1., 3.], dtype=torch.float64))
    """

    def __init__(self, n_sources: int, limit: int | None = None) -> None:
        self.n_sources, self.limit = n_sources, limit
        self._keys = torch.empty(0, dtype=torch.int64)
        self._sums = torch.empty(0, dtype=torch.float64)
        self._new: list[tuple[Tensor, Tensor]] = []

    def add(self, pairs: Pairs) -> None:
        """Add values.

        Raises:
            ValueError: more pairs than the limit; says what holds fewer.
        """
        keys = pairs.target * self.n_sources + pairs.source
        self._new.append((keys.cpu(), pairs.value.detach().cpu().double()))
        if sum(len(new) for new, _ in self._new) > max(len(self._keys), BUFFER):
            self._merge()

    def pairs(self) -> Pairs:
        """Return the sums so far, by target and then by source.

        Raises:
            ValueError: more pairs than the limit.
        """
        self._merge()
        target = torch.div(self._keys, self.n_sources, rounding_mode="floor")
        return Pairs(target, self._keys % self.n_sources, self._sums)

    def _merge(self) -> None:
        keys, values = zip((self._keys, self._sums), *self._new, strict=True)
        self._keys, place = torch.unique(torch.cat(keys), return_inverse=True)
        self._sums = torch.zeros(len(self._keys), dtype=torch.float64).index_add_(0, place, torch.cat(values))
        self._new = []
        if self.limit is not None and len(self._keys) > self.limit:
            raise ValueError(
                f"the graph would hold more than {self.limit} edges, {len(self._keys)} so far: trace fewer "
                "latents further (trace, max_traced), sum over tokens (by_token=False), or raise max_edges"
            )
