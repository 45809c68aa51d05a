"""Which latents may be active on which token."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from lightning_sae.sae.kernels.backend import Kernels
from lightning_sae.types import SparseLatents


class Transposed(NamedTuple):
    """The entries of a pattern, latent by latent.

    Attributes:
        order: `[nnz]`, sorts the entries by latent, stable.
        latents: `[nnz]`, the latent of each sorted entry; empty on a CPU.
        offsets: `[d_sae + 1]`; latent `j` has the sorted entries `offsets[j]:offsets[j + 1]`.
    """

    order: Tensor
    latents: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Pattern:
    """The latents that may be active, token by token.

    Attributes:
        indices: `[nnz]` int64, a latent of each entry.
        offsets: `[n + 1]` int64; row `i` is `indices[offsets[i]:offsets[i + 1]]`.
        d_sae: number of latents.
        kernels: which kernels compute with it, see `uses_triton`.
        each: entries of each row, if all have as many; else `None`.
    """

    indices: Tensor
    offsets: Tensor
    d_sae: int
    kernels: Kernels = "auto"
    each: int | None = None

    @classmethod
    def from_topk(cls, indices: Tensor, d_sae: int, kernels: Kernels = "auto") -> "Pattern":
        """Return the pattern of a selection `[n, k]`."""
        n, k = indices.shape
        offsets = torch.arange(n + 1, device=indices.device) * k
        return cls(indices.reshape(-1), offsets, d_sae, kernels, k)

    @classmethod
    def of(cls, latents: SparseLatents, kernels: Kernels = "auto") -> "Pattern":
        """Return the pattern of some latents."""
        return cls(latents.indices, latents.offsets, latents.d_sae, kernels)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def latents(self, values: Tensor) -> SparseLatents:
        """Return the latents with these entries, `[nnz]`."""
        return SparseLatents(values, self.indices, self.offsets, self.d_sae)

    def followed_by(self, other: "Pattern") -> "Pattern":
        """Return the rows of both, one after the other."""
        indices = torch.cat([self.indices, other.indices])
        offsets = torch.cat([self.offsets, other.offsets[1:] + len(self.indices)])
        return Pattern(indices, offsets, self.d_sae, self.kernels)

    @cached_property
    def rows(self) -> Tensor:
        """The token of each entry, `[nnz]`."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff(), output_size=len(self.indices))

    @cached_property
    def transposed(self) -> Transposed:
        """The same latent by latent: by counting on a CPU, by a sort of short keys elsewhere."""
        if self.indices.device.type == "cpu":
            return self._counted()
        short = torch.int16 if self.d_sae <= 2**15 else torch.int32
        latents, order = self.indices.to(short).sort(stable=True)
        latents = latents.int()
        bounds = torch.arange(self.d_sae + 1, dtype=torch.int32, device=latents.device)
        return Transposed(order, latents, torch.searchsorted(latents, bounds))

    def _counted(self) -> Transposed:
        shape = len(self), self.d_sae
        entries = np.arange(len(self.indices), dtype=np.int32)
        by_latent = csr_matrix((entries, self.indices.numpy(), self.offsets.numpy()), shape).tocsc()
        order, offsets = map(torch.from_numpy, (by_latent.data, by_latent.indptr))
        return Transposed(order, self.indices[:0], offsets)


@dataclass(frozen=True)
class Joint:
    """The latents that reconstruct a batch, and the dead ones that AuxK lets learn from it.

    Attributes:
        main: of the `n` tokens.
        spare: of the same tokens, some dead latents each; `None` without AuxK.
    """

    main: Pattern
    spare: Pattern | None = None

    @cached_property
    def both(self) -> Pattern:
        """The main entries of all tokens, then the spare ones: one sort serves the gradients of both."""
        return self.main if self.spare is None else self.main.followed_by(self.spare)

    @cached_property
    def tokens(self) -> Tensor:
        """The token of each entry of both, `[nnz]`, in `0..n-1`."""
        return self.main.rows if self.spare is None else torch.cat([self.main.rows, self.spare.rows])

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the main ones and the spare ones among the entries of both."""
        n = len(self.main.indices)
        return values[:n], values[n:]
