"""The squared error of reconstructions by sparse latents, whose gradients come from the same gather."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_sae.sae.kernels.backend import uses_triton
from lightning_sae.sae.kernels.dense import is_dense
from lightning_sae.sae.kernels.pattern import Joint, Pattern
from lightning_sae.sae.kernels.products import decode, products, row_gradient
from lightning_sae.sae.kernels.workspace import Workspace
from lightning_sae.types import SparseLatents


class SpareTask(NamedTuple):
    """The task that the spare latents of AuxK learn, see `lightning_sae.sae.auxk`.

    Attributes:
        values: `[n * k]`, of the spare entries.
        smallest: `[n]`, the smallest active latent of each token, which they compete with; 0 for none.
        smallest_index: `[n]` int64, which one it is.
        n_kept: scalar, the number of latents that they are selected from; where it is 0 there is no task.
    """

    values: Tensor
    smallest: Tensor
    smallest_index: Tensor
    n_kept: Tensor


class Errors(NamedTuple):
    """Sums over a batch.

    Attributes:
        main: scalar, squared error of the reconstructions, of all prefixes.
        spare: scalar, squared error of the spare latents' reconstructions of `target`; 0 without a task.
        target: `[n, d]`, what they are to reconstruct; undefined without a task.
    """

    main: Tensor
    spare: Tensor
    target: Tensor


def squared_errors(
    values: Tensor,
    rows: Tensor,
    centred: Tensor,
    shift: Tensor,
    joint: Joint,
    task: SpareTask | None = None,
    ends: tuple[int, ...] = (),
    workspace: Workspace | None = None,
) -> Errors:
    """Sum the squared errors of the reconstructions of `centred = x - shift` by sparse latents.

    `main = sum_m ||centred - latents[:m] @ rows[:m]||^2` over the prefixes `m`, and for a task
    `spare = ||target - spare latents @ rows||^2` with `target` the residual of the whole and the smallest
    active latent. The gradient of the rows leaves out the part parallel to them, as they have unit norm and
    are brought back to it. `target` has no gradient.

    Args:
        values: `[nnz]`, of the main entries.
        rows: `[d_sae, d]` of unit norm.
        centred: `[n, d]`, without a gradient.
        shift: `[d]`, for its gradient.
        joint: where the entries are.
        task: what the spare entries learn; `None` if there are none.
        ends: ascending, where the prefixes end, the last at `d_sae`; none for the whole alone.
        workspace: where the gradient of `rows` may take its memory from.

    Example:
        >>> joint = Joint(Pattern.from_topk(torch.tensor([[0]]), d_sae=2))
        >>> values, x = torch.tensor([2.0], requires_grad=True), torch.tensor([[5.0, 1.0]])
        >>> error = squared_errors(values, torch.eye(2), x, torch.zeros(2), joint).main
        >>> error.backward()
        >>> error.item(), values.grad.item()
        (10.0, -6.0)
    """
    spare_values = values.new_zeros(0) if task is None else task.values
    batch = _Batch(centred, joint, task, ends or (joint.main.d_sae,), workspace or Workspace())
    main, spare, target = _SquaredErrors.apply(values, spare_values, rows, shift, batch)
    return Errors(main, spare, target)


@torch.no_grad()
def smallest_active(latents: SparseLatents, each: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the smallest active latent of each token, as values `[n]` and indices `[n]`.

    Where no latent is active the value is 0.

    Args:
        latents: of `n` tokens.
        each: entries of each token, if all have as many; else `None`.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[3.0, 2.0], [0.0, 0.0]]))
        >>> smallest_active(latents)[0].tolist(), smallest_active(latents)[1][0].item()
        ([2.0, 0.0], 1)
    """
    values = torch.where(latents.values > 0, latents.values, torch.inf)
    if each:
        least = values.view(-1, each).min(1)
        indices = latents.indices.view(-1, each).gather(1, least.indices[:, None]).squeeze(1)
        return torch.where(least.values.isfinite(), least.values, 0), indices
    n, tokens = len(latents), latents.rows()
    smallest = values.new_full((n,), torch.inf).scatter_reduce_(0, tokens, values, "amin")
    here = torch.where(
        values == smallest[tokens], torch.arange(len(values), device=values.device), len(values)
    )
    place = here.new_full((n,), len(values)).scatter_reduce_(0, tokens, here, "amin")
    indices = torch.cat([latents.indices, latents.indices.new_zeros(1)])[place]
    return torch.where(smallest.isfinite(), smallest, 0), indices


@cache
def _on_device(ends: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ends, device=device)


@dataclass(frozen=True)
class _Batch:
    centred: Tensor
    joint: Joint
    task: SpareTask | None
    ends: tuple[int, ...]
    workspace: Workspace

    @cached_property
    def by_triton(self) -> bool:
        """True if Triton's kernels compute: without prefixes, only where dense products are not faster."""
        main = self.joint.main
        return uses_triton(self.centred, main.kernels) and (len(self.ends) > 1 or not is_dense(main))

    @cached_property
    def by_row(self) -> Pattern:
        """Every token as one row for each part of the dictionary; its latents ascend, so none has to move."""
        main, ends = self.joint.main, self.ends
        if len(ends) == 1:
            return main
        stops = _on_device(ends, main.indices.device)
        row = main.rows * len(ends) + torch.searchsorted(stops, main.indices, right=True)
        rows = torch.arange(len(main) * len(ends) + 1, device=row.device)
        return Pattern(main.indices, torch.searchsorted(row, rows), main.d_sae, main.kernels)

    def rows_left(self) -> Tensor:
        """Return for each entry its row in the residuals, `[n * prefixes + n, d]`."""
        joint, n_prefixes, n = self.joint, len(self.ends), len(self.centred)
        if n_prefixes == 1:
            return joint.both.rows
        indices = joint.main.indices
        part = torch.searchsorted(_on_device(self.ends, indices.device), indices, right=True)
        main = joint.main.rows * n_prefixes + part
        return main if joint.spare is None else torch.cat([main, joint.spare.rows + n * n_prefixes])


class _Left(NamedTuple):
    """The residuals of tokens, `rows [m, d]`, by prefix and then of the task; their `products [nnz]`."""

    rows: Tensor
    products: Tensor
    main: Tensor
    spare: Tensor
    target: Tensor


def _by_triton(values: Tensor, rows: Tensor, batch: _Batch) -> _Left:
    from lightning_sae.sae.kernels import triton_products

    centred, joint, task, ends = batch.centred, batch.joint, batch.task, batch.ends
    n, (d, m) = len(centred), (centred.shape[1], len(ends))
    if torch.is_autocast_enabled(centred.device.type):
        rows = rows.bfloat16()
    left = rows.new_empty(n * (m + (task is not None)), d)
    stops = _on_device(ends, rows.device)
    main = triton_products.residuals(
        centred,
        values,
        rows,
        joint.main.indices,
        joint.main.offsets,
        stops,
        left[: n * m],
        joint.main.each,
    )
    if task is None or joint.spare is None:
        return _Left(left, main.products, main.squares, main.squares.new_zeros(()), left[:0])
    target, guard = torch.empty_like(centred), task.n_kept
    triton_products.add_row(left[m - 1 : n * m : m], task.smallest, rows, task.smallest_index, guard, target)
    spare = joint.spare
    entries = spare.indices, spare.offsets, stops[-1:], left[n * m :], spare.each, guard
    second = triton_products.residuals(target, task.values, rows, *entries)
    both = torch.cat([main.products, second.products])
    return _Left(left, both, main.squares, second.squares, target)


def _by_pytorch(values: Tensor, rows: Tensor, batch: _Batch) -> _Left:
    centred, joint, task, ends, split = batch.centred, batch.joint, batch.task, batch.ends, batch.by_row
    n, d = centred.shape
    parts = decode(values, rows, split).view(n, len(ends), d)
    residuals = centred[:, None] - (parts if len(ends) == 1 else parts.cumsum(1))
    suffixes = residuals if len(ends) == 1 else residuals.flip(1).cumsum(1).flip(1)
    main, left = residuals.square().sum(), suffixes.reshape(-1, d)
    found = products(left, rows, split)
    if task is None or joint.spare is None:
        return _Left(left, found, main, main.new_zeros(()), left[:0])
    target = torch.addcmul(residuals[:, -1], task.smallest[:, None], rows[task.smallest_index])
    error = target - decode(task.values, rows, joint.spare)
    both = torch.cat([found, products(error, rows, joint.spare)])
    return _Left(torch.cat([left, error]), both, main, error.square().sum(), target)


class _SquaredErrors(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, spare_values: Tensor, rows: Tensor, shift: Tensor, batch: _Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        left = (_by_triton if batch.by_triton else _by_pytorch)(values, rows, batch)
        ctx.save_for_backward(values, spare_values, rows, left.rows, left.products)
        ctx.batch = batch
        ctx.mark_non_differentiable(left.target)
        return left.main, left.spare, left.target

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_spare: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        values, spare_values, rows, left, found = ctx.saved_tensors
        batch, needed = ctx.batch, ctx.needs_input_grad
        n_prefixes, joint = len(batch.ends), batch.joint
        main, spare = joint.split(found)
        scale, scale_spare = -2 * grad, -2 * grad_spare
        grad_rows = grad_shift = None
        if needed[2]:
            weights = torch.cat([scale * values, scale_spare * spare_values])
            by_row = None if batch.by_triton else batch.by_row
            arguments = weights, left, batch.rows_left(), joint, batch.workspace, by_row
            grad_rows = row_gradient(*arguments, rows, found.to(weights))
        if needed[3]:
            n = len(batch.centred) * n_prefixes
            grad_shift = scale * left[:n:n_prefixes].sum(0, dtype=rows.dtype)
        return scale * main, scale_spare * spare, grad_rows, grad_shift, None
