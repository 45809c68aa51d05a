"""The products between a sparse pattern of latents and dense rows, with their gradients.

All are embedding bags: decoding sums the rows of the active latents of a token, a weight gradient sums the
tokens on which a latent is active. Forward and backward, cost grows with the number of active latents, up to
the density at which a dense product of a chunk of tokens is faster: penalised autoencoders start there.
"""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from lightning_sae.sae.backend import uses_triton
from lightning_sae.sae.dense import dense_decode, dense_dot, dense_row_gradient, is_dense
from lightning_sae.sae.pattern import Pattern, Transposed
from lightning_sae.sae.workspace import Workspace

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def bag(
    values: Tensor,
    rows: Tensor,
    pattern: Pattern,
    workspace: Workspace | None = None,
    unit_rows: bool = False,
) -> Tensor:
    """Sums `values * rows[latent]` over the entries of each token: `latents @ rows`.

    Args:
        values: `[nnz]`.
        rows: `[d_sae, d]`.
        pattern: `n` tokens.
        workspace: where the gradient of `rows` may take its memory from.
        unit_rows: the rows have unit norm and will be given it again: their gradient leaves out what is
            parallel to them, which an optimiser shall not see.

    Returns:
        `[n, d]`, differentiable in `values` and `rows`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[0, 2]]), d_sae=3)
        >>> bag(torch.tensor([2.0, 1.0]), torch.eye(3), pattern).tolist()
        [[2.0, 0.0, 1.0]]
    """
    result: Tensor = _Bag.apply(values, rows, pattern, workspace or Workspace(), unit_rows)
    return result


def dot(x: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace | None = None) -> Tensor:
    """The entries of `x @ rows.T` that the pattern names.

    Args:
        x: `[n, d]`.
        rows: `[d_sae, d]`.
        pattern: `n` tokens.
        workspace: where the gradient of `rows` may take its memory from.

    Returns:
        `[nnz]`, differentiable in `x` and `rows`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[0, 2]]), d_sae=3)
        >>> dot(torch.tensor([[5.0, 6.0, 7.0]]), torch.eye(3), pattern).tolist()
        [5.0, 7.0]
    """
    result: Tensor = _Dot.apply(x, rows, pattern, workspace or Workspace())
    return result


def pre_activations(
    known: Tensor,
    centred: Tensor,
    shift: Tensor,
    rows: Tensor,
    bias: Tensor,
    pattern: Pattern,
    workspace: Workspace | None = None,
) -> Tensor:
    """Gives their gradients to the entries of `centred @ rows.T + bias`, `centred = x - shift`, of a pattern.

    A selection has made them on its way; nothing is computed again.

    Args:
        known: `[nnz]`, the entries.
        centred: `[n, d]`.
        shift: `[d]`; its gradient is a product of all rows with their biases' gradients, as that of `centred`
            would be summed over the tokens.
        rows: `[d_sae, d]`.
        bias: `[d_sae]`.
        pattern: `n` tokens.
        workspace: where the gradient of `rows` may take its memory from.

    Returns:
        `known`, differentiable in `shift`, `rows` and `bias`, and in `centred` where that does not itself
        depend on `shift`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[1]]), d_sae=2)
        >>> shift, rows = torch.zeros(2, requires_grad=True), torch.eye(2)
        >>> known, x, bias = torch.tensor([3.0]), torch.ones(1, 2), torch.ones(2)
        >>> pre_activations(known, x, shift, rows, bias, pattern).sum().backward()
        >>> shift.grad
        tensor([-0., -1.])
    """
    workspace = workspace or Workspace()
    result: Tensor = _PreActivations.apply(known, centred, shift, rows, bias, pattern, workspace)
    return result


def _decode(values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """`latents @ rows`, `[n, d]`."""
    if is_dense(pattern):
        return dense_decode(values, rows, pattern)
    return _bag(values, rows, pattern.indices, pattern.offsets)


def _bag(values: Tensor, rows: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    if uses_triton(rows):
        from lightning_sae.sae import triton_kernels

        return triton_kernels.bag(values, rows, indices, offsets)
    return embedding_bag(
        indices, rows, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def _dot(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    if is_dense(pattern):
        return dense_dot(x, rows, pattern)
    if uses_triton(rows):
        from lightning_sae.sae import triton_kernels

        return triton_kernels.dot(x, rows, pattern.rows, pattern.indices)
    if _has_sparse_product(x):
        return _dot_by_latent(x, rows, pattern)
    # The backward of an embedding bag for its weights is this product, without gathering [nnz, d].
    product: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x.contiguous(), rows, pattern.indices, pattern.offsets, pattern.rows, 0, -1
    )
    return product


def _row_gradient(values: Tensor, x: Tensor, pattern: Pattern, workspace: Workspace) -> Tensor:
    """`latents.T @ x`, `[d_sae, d]`: a bag over the tokens of each latent."""
    if is_dense(pattern):
        out = workspace.take([pattern.d_sae, x.shape[1]], x.dtype, x.device)
        return dense_row_gradient(values, x, pattern, out)
    x, by_latent = x.contiguous(), pattern.transposed
    values = values[by_latent.order]
    if not _has_sparse_product(x):
        return _bag(values, x, by_latent.rows, by_latent.offsets)
    out = workspace.take([pattern.d_sae, x.shape[1]], x.dtype, x.device)
    return torch.addmm(out, _sparse(values, by_latent, len(x)), x, beta=0, out=out)


def _dot_by_latent(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """The same as `_dot`, reading each of the many rows once and the few of `x` again and again."""
    by_latent = pattern.transposed
    product, zeros = x.new_empty(len(pattern.indices)), x.new_zeros(len(pattern.indices))
    sampled = torch.sparse.sampled_addmm(_sparse(zeros, by_latent, len(x)), rows, x.T, beta=0)
    product[by_latent.order] = sampled.values()
    return product


def _sparse(values: Tensor, by_latent: Transposed, n: int) -> Tensor:
    """`latents.T [d_sae, n]` of sorted values."""
    shape = len(by_latent.offsets) - 1, n
    return torch.sparse_csr_tensor(by_latent.offsets, by_latent.rows, values, shape, check_invariants=False)


def _has_sparse_product(x: Tensor) -> bool:
    """Whether a library multiplies sparse matrices fast, and into given memory."""
    return (
        x.device.type == "cpu"
        and not uses_triton(x)
        and x.dtype in (torch.float32, torch.float64)
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace, unit_rows: bool
    ) -> Tensor:
        ctx.save_for_backward(values, rows)
        ctx.pattern, ctx.workspace, ctx.unit_rows = pattern, workspace, unit_rows
        return _decode(values, rows, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, rows = ctx.saved_tensors
        grad_values, grad_rows = _dot(grad, rows, ctx.pattern), None
        if ctx.needs_input_grad[1]:
            grad_rows = _row_gradient(values, grad, ctx.pattern, ctx.workspace)
            if ctx.unit_rows:  # <grad_rows_j, rows_j> is a sum over the few entries of latent j
                parallel = rows.new_zeros(len(rows)).index_add_(0, ctx.pattern.indices, values * grad_values)
                grad_rows.addcmul_(parallel[:, None], rows, value=-1)
        return grad_values, grad_rows, None, None, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace) -> Tensor:
        ctx.save_for_backward(x, rows)
        ctx.pattern, ctx.workspace = pattern, workspace
        return _dot(x, rows, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, rows = ctx.saved_tensors
        pattern = ctx.pattern
        grad_x = _decode(grad, rows, pattern) if ctx.needs_input_grad[0] else None
        grad_rows = _row_gradient(grad, x, pattern, ctx.workspace) if ctx.needs_input_grad[1] else None
        return grad_x, grad_rows, None, None


class _PreActivations(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        known: Tensor,
        centred: Tensor,
        shift: Tensor,
        rows: Tensor,
        bias: Tensor,
        pattern: Pattern,
        workspace: Workspace,
    ) -> Tensor:
        ctx.save_for_backward(centred, rows)
        ctx.pattern, ctx.workspace = pattern, workspace
        return known.view_as(known)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        centred, rows = ctx.saved_tensors
        pattern, needed = ctx.pattern, ctx.needs_input_grad
        of_latent = grad.new_zeros(pattern.d_sae).index_add_(0, pattern.indices, grad)
        grad_x = _decode(grad, rows, pattern) if needed[1] else None
        grad_shift = -(of_latent @ rows) if needed[2] else None
        grad_rows = _row_gradient(grad, centred, pattern, ctx.workspace) if needed[3] else None
        return None, grad_x, grad_shift, grad_rows, of_latent, None, None
