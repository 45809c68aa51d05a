"""The products between a sparse pattern of latents and dense rows, with their gradients.

All are embedding bags: decoding sums the rows of the active latents of a token, a weight gradient sums the
tokens on which a latent is active. Forward and backward, cost grows with the number of active latents; only
the selection makes pre-activations `[CHUNK, d_sae]`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, linear

from lightning_sae.sae.backend import uses_triton

CHUNK = 512  # rows of pre-activations that exist at one time


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

    @cached_property
    def rows(self) -> Tensor:
        """The token of each entry, `[nnz]`."""
        rows = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff(), output_size=len(self.indices))

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """The order `[nnz]` that sorts the entries by latent, and the offsets `[d_sae + 1]` in it."""
        counts = self.offsets.new_zeros(self.d_sae + 1)
        counts[1:].scatter_add_(0, self.indices, torch.ones_like(self.indices))  # bincount awaits a GPU
        return self.indices.argsort(stable=True), counts.cumsum(0)


def top_k(pre_acts: Tensor, k: int, groups: int = 16) -> Tensor:
    """Indices of the `k` largest entries of each row, exact, in two stages.

    The `k` strided groups with the largest maxima contain a top-k set, so the second, small selection looks
    at them only. The order within a row is unspecified, and so is the choice between equal entries.

    Args:
        pre_acts: `[n, d_sae]`.
        k: in `1..d_sae`.
        groups: entries per group; one plain selection where `d_sae` isn't a multiple, or is small.

    Returns:
        `[n, k]` int64.

    Example:
        >>> top_k(torch.tensor([[0.1, 3.0, -1.0, 2.0]]), k=2, groups=2).sort().values.tolist()
        [[1, 3]]
    """
    if uses_triton(pre_acts):
        from lightning_sae.sae import triton_kernels

        return triton_kernels.top_k(pre_acts, k)
    n, d_sae = pre_acts.shape
    width = d_sae // groups
    if d_sae % groups or width < k:
        return pre_acts.topk(k, sorted=False).indices
    grouped = pre_acts.view(n, groups, width)
    best = grouped.amax(1).topk(k, sorted=False).indices
    candidates = grouped.gather(2, best[:, None, :].expand(n, groups, k)).view(n, groups * k)
    chosen = candidates.topk(k, sorted=False).indices
    return torch.div(chosen, k, rounding_mode="floor") * width + best.gather(1, chosen % k)


@torch.no_grad()
def select(x: Tensor, rows: Tensor, bias: Tensor, k: int) -> Tensor:
    """Indices of the `k` largest pre-activations `x @ rows.T + bias` of each token.

    Under autocast the dense product is only a screening: it selects 1.5 k candidates, which are ranked again
    in full precision, because rounded pre-activations pick wrong latents.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        k: in `1..d_sae`.

    Returns:
        `[n, k]` int64.
    """
    d_sae = len(rows)
    chosen = [x.new_empty(0, k, dtype=torch.int64)]
    for chunk in torch.split(x, CHUNK):
        pre_acts = linear(chunk, rows, bias)
        if pre_acts.dtype == rows.dtype:
            chosen.append(top_k(pre_acts, k))
            continue
        candidates = top_k(pre_acts, min(d_sae, math.ceil(1.5 * k)))
        exact = dot(chunk, rows, Pattern.from_topk(candidates, d_sae)).view_as(candidates) + bias[candidates]
        chosen.append(candidates.gather(1, exact.topk(k, sorted=False).indices))
    return torch.cat(chosen)


def bag(values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Sums `values * rows[latent]` over the entries of each token: `latents @ rows`.

    Args:
        values: `[nnz]`.
        rows: `[d_sae, d]`.
        pattern: `n` tokens.

    Returns:
        `[n, d]`, differentiable in `values` and `rows`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[0, 2]]), d_sae=3)
        >>> bag(torch.tensor([2.0, 1.0]), torch.eye(3), pattern).tolist()
        [[2.0, 0.0, 1.0]]
    """
    result: Tensor = _Bag.apply(values, rows, pattern)
    return result


def dot(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """The entries of `x @ rows.T` that the pattern names.

    Args:
        x: `[n, d]`.
        rows: `[d_sae, d]`.
        pattern: `n` tokens.

    Returns:
        `[nnz]`, differentiable in `x` and `rows`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[0, 2]]), d_sae=3)
        >>> dot(torch.tensor([[5.0, 6.0, 7.0]]), torch.eye(3), pattern).tolist()
        [5.0, 7.0]
    """
    result: Tensor = _Dot.apply(x, rows, pattern)
    return result


def _bag(values: Tensor, rows: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    if uses_triton(rows):
        from lightning_sae.sae import triton_kernels

        return triton_kernels.bag(values, rows, indices, offsets)
    return embedding_bag(
        indices, rows, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _dot(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    if uses_triton(rows):
        from lightning_sae.sae import triton_kernels

        return triton_kernels.dot(x, rows, pattern.rows, pattern.indices)
    # The backward of an embedding bag for its weights is this product, without gathering [nnz, d].
    product: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x.contiguous(), rows, pattern.indices, pattern.offsets, pattern.rows, 0, -1
    )
    return product


def _row_gradient(values: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """`latents.T @ x`, `[d_sae, d]`: a bag over the tokens of each latent."""
    order, offsets = pattern.transposed
    return _bag(values[order], x.contiguous(), pattern.rows[order], offsets)


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, rows)
        ctx.pattern = pattern
        return _bag(values, rows, pattern.indices, pattern.offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        values, rows = ctx.saved_tensors
        grad_rows = _row_gradient(values, grad, ctx.pattern) if ctx.needs_input_grad[1] else None
        return _dot(grad, rows, ctx.pattern), grad_rows, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(x, rows)
        ctx.pattern = pattern
        return _dot(x, rows, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, rows = ctx.saved_tensors
        pattern = ctx.pattern
        grad_x = _bag(grad, rows, pattern.indices, pattern.offsets) if ctx.needs_input_grad[0] else None
        grad_rows = _row_gradient(grad, x, pattern) if ctx.needs_input_grad[1] else None
        return grad_x, grad_rows, None
