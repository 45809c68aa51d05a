"""Launches the programs of `triton_jit.products`."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from lightning_sae.sae.kernels.triton_jit import products as programs

# Entries and columns of a program: a slice of 128 columns of all rows fits into the L2 cache.
TILE = {"ENTRIES": 32, "COLUMNS": 128}
TILE_SIZE = 4096  # entries times columns that a program of four warps keeps in registers
MOST_ENTRIES = 128  # of a token that are kept in registers; the rows of more are read again from the cache
PIECE = 256  # entries of one latent that one program sums


class Residuals(NamedTuple):
    """The residuals of tokens, as `residuals` computes them.

    Attributes:
        squares: scalar, the sum of all `r_m^2`.
        products: `[nnz]`, of each entry's row with its token's `R_p`.
    """

    squares: Tensor
    products: Tensor


def bag(values: Tensor, rows: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    """Return the sums of `values * rows[index]` over each bag.

    Bag `i` has the entries `offsets[i]:offsets[i + 1]`.

    Args:
        values: `[nnz]`.
        rows: `[m, d]`.
        indices: `[nnz]` int64, in `0..m-1`.
        offsets: `[n + 1]` int64.

    Returns:
        `[n, d]`, in the type of `rows`; zeros for an empty bag.
    """
    n, width = len(offsets) - 1, rows.shape[1]
    sums = rows.new_empty(n, width)
    grid = n, cdiv(width, TILE["COLUMNS"])
    inputs = (tensor.contiguous() for tensor in (values, rows, indices, offsets))
    launch(programs.sum_rows, grid, *inputs, sums, width, **TILE)
    return sums


def dot(x: Tensor, rows: Tensor, tokens: Tensor, indices: Tensor) -> Tensor:
    """Return the entries `(token, index)` of `x @ rows.T`.

    Args:
        x: `[n, d]`.
        rows: `[m, d]`.
        tokens: `[nnz]` int64, in `0..n-1`.
        indices: `[nnz]` int64, in `0..m-1`.

    Returns:
        `[nnz]`, in the type of `x`.
    """
    nnz, width = len(indices), x.shape[1]
    grid = cdiv(nnz, TILE["ENTRIES"]), cdiv(width, TILE["COLUMNS"])
    parts = torch.empty(grid[1], nnz, device=x.device)
    inputs = (tensor.contiguous() for tensor in (x, rows, tokens, indices))
    launch(programs.dot_rows, grid, *inputs, parts, nnz, width, **TILE)
    return parts.sum(0).to(x.dtype)


def residuals(
    target: Tensor,
    values: Tensor,
    rows: Tensor,
    indices: Tensor,
    offsets: Tensor,
    ends: Tensor,
    out: Tensor,
    each: int | None,
    n_kept: Tensor | None = None,
) -> Residuals:
    """Return what prefixes of the latents leave of each token, and the gradients of this rest.

    Both come from one gather. `r_m = target - sum over the latents below ends[m] of value * row`, `R_p = sum
    of r_m over m >= p`.

    Args:
        target: `[n, d]`.
        values: `[nnz]`.
        rows: `[d_sae, d]`.
        indices: `[nnz]` int64.
        offsets: `[n + 1]` int64, of the tokens' entries.
        ends: `[m]` int64, ascending, the last one `d_sae`.
        out: `[n * m, d]` is filled with `R_p`, prefix by prefix of each token.
        each: entries of each token, if all have as many; else `None`.
        n_kept: scalar; where it is 0 nothing is done, and squares and products are 0.
    """
    n, width = target.shape
    usual = each or 2 * cdiv(len(indices), max(1, n))
    entries = max(16, min(MOST_ENTRIES, next_power_of_2(usual)))
    columns = min(TILE_SIZE // entries, next_power_of_2(width))
    grid = n, cdiv(width, columns)
    make = torch.empty if n_kept is None else torch.zeros
    squares = make(grid[1], n, device=target.device)
    products = make(grid[1], len(indices), device=target.device)
    inputs = (tensor.contiguous() for tensor in (target, values, indices, offsets, rows, ends))
    constants = {
        "PREFIXES": len(ends),
        "ENTRIES": entries,
        "COLUMNS": columns,
        "GUARDED": n_kept is not None,
        "LONG": each is None or each > entries,
    }
    guard = ends if n_kept is None else n_kept
    launch(programs.residuals, grid, *inputs, guard, out, squares, products, width, len(indices), **constants)
    return Residuals(squares.sum(), products.sum(0))


def add_row(x: Tensor, values: Tensor, rows: Tensor, indices: Tensor, n_kept: Tensor, out: Tensor) -> None:
    """Set `out = x + values[:, None] * rows[indices]`, one entry a token, only if `n_kept` is not 0."""
    n, width = x.shape
    columns = min(1024, next_power_of_2(width))
    inputs = (tensor.contiguous() for tensor in (x, values, indices, rows, n_kept))
    launch(programs.add_row, (n, cdiv(width, columns)), *inputs, out, width, COLUMNS=columns)


def sum_by_latent(
    weights: Tensor,
    left: Tensor,
    tokens: Tensor,
    order: Tensor,
    latents: Tensor,
    offsets: Tensor,
    unit_rows: Tensor | None = None,
    others: Tensor | None = None,
) -> Tensor:
    """Return the sums `weight * left[token]` over the entries of each latent: the gradient of the rows.

    Args:
        weights: `[nnz]`; where it is 0 the row of `left` is not read.
        left: `[m, d]`.
        tokens: `[nnz]` int64, the row of `left` of each entry.
        order: `[nnz]`, sorts the entries by latent.
        latents: `[nnz]`, sorted.
        offsets: `[d_sae + 1]` int64, of the sorted entries.
        unit_rows: `[d_sae, d]`, what is parallel to them is taken away.
        others: `[nnz]`, with `unit_rows`: the products of the rows with `left[token]`.

    Returns:
        `[d_sae, d]` float32.
    """
    d_sae, width, nnz = len(offsets) - 1, left.shape[1], len(weights)
    narrow = left.dtype.itemsize > 2
    columns = min(256 if narrow else 1024, next_power_of_2(width))
    tile = {"MANY": 4, "COLUMNS": columns, "LENGTH": PIECE, "num_warps": 2 if narrow else 4}
    slices = cdiv(width, columns)
    weights, left, order = weights.float().contiguous(), left.contiguous(), order.contiguous()
    pieces = torch.empty(nnz // PIECE, width, device=left.device)
    out = torch.empty(d_sae, width, device=left.device)
    grid = nnz // PIECE, slices
    launch(programs.sum_pieces, grid, weights, order, latents, tokens, left, pieces, nnz, width, **tile)
    parallel = unit_rows is not None and others is not None
    rows, products = (unit_rows.contiguous(), others.contiguous()) if parallel else (left, weights)  # type: ignore[union-attr]
    inputs = weights, order, offsets, tokens, left, pieces, products, rows, out, width
    launch(programs.sum_by_latent, (d_sae, slices), *inputs, PARALLEL=parallel, **tile)
    return out


def sum_values(values: Tensor, tokens: Tensor, order: Tensor, offsets: Tensor, n_first: int) -> Tensor:
    """Sum the entries of each latent, `[2, d_sae]` float32: of the first `n_first` tokens, of the others."""
    sums = torch.empty(2, len(offsets) - 1, device=values.device)
    inputs = values.float().contiguous(), order, offsets, tokens, sums, n_first, len(offsets) - 1
    launch(programs.sum_values, (len(offsets) - 1, 1), *inputs, MANY=128, num_warps=1)
    return sums


def unit_rows(rows: Tensor) -> None:
    """Give the rows `[m, d]`, contiguous, unit norm in place; a row of zeros stays."""
    width, tiny = rows.shape[1], torch.finfo(rows.dtype).tiny
    launch(programs.unit_rows, (len(rows),), rows, width, tiny, WIDTH=next_power_of_2(width))


def launch(program: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a program on the device of its first tensor, unless the grid is empty."""
    if 0 in grid:
        return
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        program[grid](*arguments, **constants)
