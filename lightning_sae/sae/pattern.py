"""Which latents may be active on which token."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from lightning_sae.types import SparseLatents


class Transposed(NamedTuple):
    """The entries of a pattern, latent by latent.

    Attributes:
        order: `[nnz]`, sorts the entries by latent, stable.
        rows: `[nnz]`, the token of each sorted entry.
        offsets: `[d_sae + 1]`; latent `j` has the sorted entries `offsets[j]:offsets[j + 1]`.
    """

    order: Tensor
    rows: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Pattern:
    """Which latents may be active on which token.

    Attributes:
        indices: `[nnz]` int64, a latent of each entry.
        offsets: `[n + 1]` int64; row `i` is `indices[offsets[i]:offsets[i + 1]]`.
        d_sae: number of latents.
    """

    indices: Tensor
    offsets: Tensor
    d_sae: int

    @classmethod
    def from_topk(cls, indices: Tensor, d_sae: int) -> "Pattern":
        """The pattern of a selection `[n, k]`."""
        n, k = indices.shape
        return cls(indices.reshape(-1), torch.arange(n + 1, device=indices.device) * k, d_sae)

    def latents(self, values: Tensor) -> SparseLatents:
        """Latents with these entries, `[nnz]`."""
        return SparseLatents(values, self.indices, self.offsets, self.d_sae)

    @cached_property
    def rows(self) -> Tensor:
        """The token of each entry, `[nnz]`."""
        rows = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff(), output_size=len(self.indices))

    @cached_property
    def transposed(self) -> Transposed:
        """The same latent by latent: by counting on a CPU, by a sort elsewhere."""
        if self.indices.device.type == "cpu":
            return self._counted()
        counts = self.offsets.new_zeros(self.d_sae + 1)
        counts[1:].scatter_add_(0, self.indices, torch.ones_like(self.indices))  # bincount awaits a GPU
        order = self.indices.argsort(stable=True)
        return Transposed(order, self.rows[order], counts.cumsum(0))

    def _counted(self) -> Transposed:
        shape = len(self.offsets) - 1, self.d_sae
        entries = np.arange(len(self.indices), dtype=np.int32)
        by_latent = csr_matrix((entries, self.indices.numpy(), self.offsets.numpy()), shape).tocsc()
        return Transposed(*map(torch.from_numpy, (by_latent.data, by_latent.indices, by_latent.indptr)))
