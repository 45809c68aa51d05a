"""The primitives of `kernels` as Triton kernels; `use_backend` chooses them."""

from typing import Any

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from lightning_sae.sae.triton_jit import dot_rows, find_largest, sum_rows

PART = 4096  # entries of a row that one program holds in registers
# Entries and columns of a program: a slice of 128 columns of all rows fits into the L2 cache.
TILE = {"ENTRIES": 32, "COLUMNS": 128}


def top_k(pre_acts: Tensor, k: int) -> Tensor:
    """Indices of the `k` largest entries of each row, exact; the first of equal ones, NaN as the largest.

    Rows longer than 4096 are cut into parts; the winners of the parts are ranked again.

    Args:
        pre_acts: `[n, d_sae]`.
        k: in `1..d_sae`, and at most 1024 where `d_sae` is above 4096.

    Returns:
        `[n, k]` int64, ascending in each row.

    Raises:
        ValueError: `k` is too large for the length of the rows.
    """
    n, d_sae = pre_acts.shape
    n_parts = cdiv(d_sae, PART)
    length = cdiv(cdiv(d_sae, n_parts), 16) * 16  # keeps the parts aligned
    most = d_sae if n_parts == 1 else min(PART // 4, d_sae - (n_parts - 1) * length)
    if not 1 <= k <= most:
        raise ValueError(f'k must be in 1..{most} for d_sae={d_sae}, got {k}; see use_backend("torch")')
    winners = torch.empty(n, n_parts * k, dtype=torch.int64, device=pre_acts.device)
    size = next_power_of_2(length)
    constants = {"SIZE": size, "GROUPS": next_power_of_2(k), "num_warps": max(1, size // 512)}
    _launch(find_largest, (n, n_parts), pre_acts.contiguous(), winners, d_sae, length, k, **constants)
    if n_parts == 1:
        return winners
    return winners.gather(1, top_k(pre_acts.gather(1, winners), k))


def bag(values: Tensor, rows: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    """Sums `values * rows[index]` over each bag: bag `i` has the entries `offsets[i]:offsets[i + 1]`.

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
    _launch(sum_rows, grid, *inputs, sums, width, **TILE)
    return sums


def dot(x: Tensor, rows: Tensor, tokens: Tensor, indices: Tensor) -> Tensor:
    """The entries `(token, index)` of `x @ rows.T`.

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
    _launch(dot_rows, grid, *inputs, parts, nnz, width, **TILE)
    return parts.sum(0).to(x.dtype)


def _launch(kernel: Any, grid: tuple[int, int], *arguments: Any, **constants: int) -> None:
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **constants)
