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

from lightning_sae.sae.kernels.backend import uses_triton
from lightning_sae.sae.kernels.dense import dense_decode, dense_dot, dense_row_gradient, is_dense
from lightning_sae.sae.kernels.pattern import Joint, Pattern
from lightning_sae.sae.kernels.workspace import Workspace

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


def bag(values: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace | None = None) -> Tensor:
    """Return the sums `values * rows[latent]` over the entries of each token: `latents @ rows`.

    Args:
        values: `[nnz]`.
        rows: `[d_sae, d]`.
        pattern: `n` tokens.
        workspace: where the gradient of `rows` may take its memory from.

    Returns:
        `[n, d]`, differentiable in `values` and `rows`.

    Example:
        >>> pattern = Pattern.from_topk(torch.tensor([[0, 2]]), d_sae=3)
        >>> bag(torch.tensor([2.0, 1.0]), torch.eye(3), pattern).tolist()
        [[2.0, 0.0, 1.0]]
    """
    result: Tensor = _Bag.apply(values, rows, pattern, workspace or Workspace())
    return result


def dot(x: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace | None = None) -> Tensor:
    """Return the entries of `x @ rows.T` that the pattern names.

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
    joint: Joint,
    workspace: Workspace | None = None,
) -> Tensor:
    """Give gradients to the entries of `centred @ rows.T + bias` in a pattern, with `centred = x - shift`.

    A selection has computed the entries already; nothing is computed again.

    Args:
        known: `[nnz]`, the entries, the main ones before the spare ones.
        centred: `[n, d]`.
        shift: `[d]`; its gradient is a product of all rows with their biases' gradients, as that of `centred`
            would be summed over the tokens. Spare entries leave it as it is.
        rows: `[d_sae, d]`.
        bias: `[d_sae]`.
        joint: of `n` tokens.
        workspace: where the gradient of `rows` may take its memory from.

    Returns:
        `known`, differentiable in `shift`, `rows` and `bias`, and, without spare entries, in `centred` where
        that does not itself depend on `shift`.

    Example:
        >>> joint = Joint(Pattern.from_topk(torch.tensor([[1]]), d_sae=2))
        >>> shift, rows = torch.zeros(2, requires_grad=True), torch.eye(2)
        >>> known, x, bias = torch.tensor([3.0]), torch.ones(1, 2), torch.ones(2)
        >>> pre_activations(known, x, shift, rows, bias, joint).sum().backward()
        >>> shift.grad
        tensor([-0., -1.])
    """
    workspace = workspace or Workspace()
    result: Tensor = _PreActivations.apply(known, centred, shift, rows, bias, joint, workspace)
    return result


def decode(values: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Return `latents @ rows`, `[n, d]`, without a gradient."""
    if is_dense(pattern):
        return dense_decode(values, rows, pattern)
    return _sum_rows(values, rows, pattern.indices, pattern.offsets, pattern)


def _sum_rows(values: Tensor, rows: Tensor, indices: Tensor, offsets: Tensor, pattern: Pattern) -> Tensor:
    if uses_triton(rows, pattern.kernels):
        from lightning_sae.sae.kernels import triton_products

        return triton_products.bag(values, rows, indices, offsets)
    return embedding_bag(
        indices, rows, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    )


def products(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Return the entries of `x @ rows.T` that the pattern names, `[nnz]`, without a gradient."""
    if is_dense(pattern):
        return dense_dot(x, rows, pattern)
    if uses_triton(rows, pattern.kernels):
        from lightning_sae.sae.kernels import triton_products

        return triton_products.dot(x, rows, pattern.rows, pattern.indices)
    if _has_sparse_product(x, pattern):
        return _products_by_latent(x, rows, pattern)
    # The backward of an embedding bag for its weights is this product, without gathering [nnz, d].
    product: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x.contiguous(), rows, pattern.indices, pattern.offsets, pattern.rows, 0, -1
    )
    return product


def row_gradient(
    weights: Tensor,
    x: Tensor,
    tokens: Tensor,
    joint: Joint,
    workspace: Workspace,
    by_row: Pattern | None,
    unit_rows: Tensor | None = None,
    others: Tensor | None = None,
) -> Tensor:
    """Return `latents.T @ x`, `[d_sae, d]`: a bag over the tokens of each latent.

    Args:
        weights: `[nnz]`, of the main entries, then of the spare ones.
        x: `[m, d]`.
        tokens: `[nnz]`, the row of `x` of each entry.
        joint: names the latents.
        workspace: where the result may take its memory from.
        by_row: the main entries as a pattern of the first rows of `x`, which may be dense; `None`: it is not.
        unit_rows: `[d_sae, d]` of unit norm: the part of the gradient parallel to them is taken away, as rows
            are brought back to unit norm, and an optimiser shall not see it.
        others: `[nnz]`, with `unit_rows`: the products of `x` and the rows.
    """
    if by_row is not None and is_dense(by_row):
        gradient = _dense_row_gradient(weights, x, tokens, joint, workspace, by_row)
    elif uses_triton(x, joint.main.kernels):
        from lightning_sae.sae.kernels import triton_products

        by_latent = joint.both.transposed
        return triton_products.sum_by_latent(weights, x, tokens, *by_latent, unit_rows, others)
    else:
        gradient = _sparse_row_gradient(weights, x, tokens, joint.both, workspace)
    if unit_rows is not None and others is not None:
        # <gradient_j, row_j> is a sum over the few entries of latent j
        parallel = weights.new_zeros(len(unit_rows)).index_add_(0, joint.both.indices, weights * others)
        gradient.addcmul_(parallel[:, None], unit_rows, value=-1)
    return gradient


def _dense_row_gradient(
    weights: Tensor, x: Tensor, tokens: Tensor, joint: Joint, workspace: Workspace, by_row: Pattern
) -> Tensor:
    out = workspace.take([by_row.d_sae, x.shape[1]], x.dtype, x.device)
    main, spare = joint.split(weights)
    gradient = dense_row_gradient(main, x, by_row, out)
    if joint.spare is not None:
        gradient += _sparse_row_gradient(spare, x, joint.split(tokens)[1], joint.spare, Workspace())
    return gradient


def _sparse_row_gradient(
    weights: Tensor, x: Tensor, tokens: Tensor, pattern: Pattern, workspace: Workspace
) -> Tensor:
    x, by_latent = x.contiguous(), pattern.transposed
    weights, tokens = weights[by_latent.order], tokens[by_latent.order]
    if not _has_sparse_product(x, pattern):
        return _sum_rows(weights, x, tokens, by_latent.offsets, pattern)
    out = workspace.take([pattern.d_sae, x.shape[1]], x.dtype, x.device)
    return torch.addmm(out, _sparse(weights, tokens, by_latent.offsets, len(x)), x, beta=0, out=out)


def _products_by_latent(x: Tensor, rows: Tensor, pattern: Pattern) -> Tensor:
    """Return what `products` returns, but compute it latent by latent.

    Each of the many rows is read once, and the few rows of `x` are read again and again.
    """
    by_latent = pattern.transposed
    product, zeros = x.new_empty(len(pattern.indices)), x.new_zeros(len(pattern.indices))
    sparse = _sparse(zeros, pattern.rows[by_latent.order], by_latent.offsets, len(x))
    sampled = torch.sparse.sampled_addmm(sparse, rows, x.T, beta=0)
    product[by_latent.order] = sampled.values()
    return product


def _sparse(values: Tensor, tokens: Tensor, offsets: Tensor, n: int) -> Tensor:
    """Return `latents.T [d_sae, n]` of sorted values."""
    shape = len(offsets) - 1, n
    tokens = tokens.to(offsets.dtype)
    return torch.sparse_csr_tensor(offsets, tokens, values, shape, check_invariants=False)


def _has_sparse_product(x: Tensor, pattern: Pattern) -> bool:
    """Return whether a library multiplies sparse matrices fast, and into given memory."""
    return (
        x.device.type == "cpu"
        and not uses_triton(x, pattern.kernels)
        and x.dtype in (torch.float32, torch.float64)
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    )


def _latent_sums(values: Tensor, joint: Joint) -> tuple[Tensor, Tensor]:
    """Return the sums of the main and of the spare entries of each latent, `[d_sae]` both."""
    if uses_triton(values, joint.main.kernels):
        from lightning_sae.sae.kernels import triton_products

        by_latent, both = joint.both.transposed, joint.both
        sums = triton_products.sum_values(
            values, both.rows, by_latent.order, by_latent.offsets, len(joint.main)
        )
        return sums[0], sums[1]
    sums = values.new_zeros(2, joint.main.d_sae)
    patterns = (joint.main, joint.spare)
    for total, part, pattern in zip(sums, joint.split(values), patterns, strict=True):
        if pattern is not None:
            total.index_add_(0, pattern.indices, part)
    return sums[0], sums[1]


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace) -> Tensor:
        ctx.save_for_backward(values, rows)
        ctx.pattern, ctx.workspace = pattern, workspace
        return decode(values, rows, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, rows = ctx.saved_tensors
        grad_values, grad_rows = products(grad, rows, ctx.pattern), None
        if ctx.needs_input_grad[1]:
            pattern = ctx.pattern
            grad_rows = row_gradient(values, grad, pattern.rows, Joint(pattern), ctx.workspace, pattern)
        return grad_values, grad_rows, None, None


class _Dot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, pattern: Pattern, workspace: Workspace) -> Tensor:
        ctx.save_for_backward(x, rows)
        ctx.pattern, ctx.workspace = pattern, workspace
        return products(x, rows, pattern)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, rows = ctx.saved_tensors
        pattern, grad_rows = ctx.pattern, None
        grad_x = decode(grad, rows, pattern) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[1]:
            grad_rows = row_gradient(grad, x, pattern.rows, Joint(pattern), ctx.workspace, pattern)
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
        joint: Joint,
        workspace: Workspace,
    ) -> Tensor:
        if torch.is_autocast_enabled(rows.device.type) and uses_triton(rows, joint.main.kernels):
            centred = centred.bfloat16()
        ctx.save_for_backward(centred, rows)
        ctx.joint, ctx.workspace = joint, workspace
        return known.view_as(known)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        centred, rows = ctx.saved_tensors
        joint, needed = ctx.joint, ctx.needs_input_grad
        main, spare = _latent_sums(grad, joint)
        grad_x = decode(grad, rows, joint.main) if needed[1] else None
        grad_shift = -(main.to(rows) @ rows) if needed[2] else None
        grad_rows = None
        if needed[3]:
            grad_rows = row_gradient(grad, centred, joint.tokens, joint, ctx.workspace, joint.main)
        return None, grad_x, grad_shift, grad_rows, main + spare, None, None
