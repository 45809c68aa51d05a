"""Launches the programs of `triton_jit.selection`: the largest entries of the rows of a dense product."""

from typing import NamedTuple

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from lightning_sae.sae.kernels.triton_jit import selection as programs
from lightning_sae.sae.kernels.triton_products import launch

MOST = 1024  # entries of a row that can be selected
GROUP = 16  # neighbouring entries of which the largest is known, at most
LANES = 1024  # entries of a row that a program looks at together
DIGIT = 16  # values of a digit in the search for a threshold


class Candidates(NamedTuple):
    """Columns of some rows that may be the largest.

    Attributes:
        found: `[m]` int32, column of each candidate.
        starts: `[n]` int64, place of the first candidate of each row.
        counts: `[n]` int32, candidates of each row.
        cuts: `[n]` float32; no entry above it is left out.
    """

    found: Tensor
    starts: Tensor
    counts: Tensor
    cuts: Tensor


def capacity(wanted: int) -> int:
    """Return the room for the candidates of a row.

    Groups with two large entries bring a few more candidates than wanted.
    """
    return max(16, int(next_power_of_2(wanted + wanted // 4 + 4)))


def candidates(
    x: Tensor, wanted: int, kept: Tensor | None = None, n_kept: Tensor | None = None
) -> Candidates:
    """Return at least the `wanted` largest entries of each row, in two passes over it.

    Args:
        x: `[n, n_columns]`.
        wanted: in `1..n_columns`.
        kept: `[n_columns]` bool, the columns that are looked at.
        n_kept: scalar, how many they are; where it is 0 nothing is done and there are no candidates.
    """
    x = x.contiguous()
    n, n_columns = x.shape
    cap = capacity(wanted)
    maxima, group = group_maxima(x, wanted, kept, n_kept)
    found = torch.empty(n, cap, dtype=torch.int32, device=x.device)
    counts = torch.empty(n, dtype=torch.int32, device=x.device)
    cuts = torch.empty(n, device=x.device)
    n_groups = maxima.shape[1]
    constants = {
        "CAP": cap,
        "GROUPS": next_power_of_2(n_groups),
        "GROUP": group,
        "MASKED": kept is not None,
        "LANES": min(LANES, next_power_of_2(n_columns)),
        "num_warps": 4,
    }
    masks = (counts, counts) if kept is None or n_kept is None else (kept.view(torch.int8), n_kept)
    arguments = x, maxima, *masks, found, counts, cuts, n_columns, n_groups, wanted
    launch(programs.collect, (n,), *arguments, **constants)
    starts = torch.arange(n, device=x.device) * cap
    return Candidates(found.view(-1), starts, counts, cuts)


def group_maxima(
    x: Tensor, wanted: int, kept: Tensor | None = None, n_kept: Tensor | None = None
) -> tuple[Tensor, int]:
    """Return the largest of each group of neighbouring entries, `[n, n_groups]`, and the size of a group.

    There are at least four times as many groups as wanted, where the rows are long enough.
    """
    n, n_columns = x.shape
    group = GROUP
    while group > 1 and cdiv(n_columns, group) < 4 * wanted:
        group //= 2
    n_groups = cdiv(n_columns, group)
    maxima = torch.empty(n, n_groups, dtype=x.dtype, device=x.device)
    block = min(next_power_of_2(n_groups), 4096 // group)
    masks = (maxima, maxima) if kept is None or n_kept is None else (kept.view(torch.int8), n_kept)
    arguments = x, *masks, maxima, n_columns, n_groups
    constants = {"GROUP": group, "BLOCK": block, "MASKED": kept is not None}
    launch(programs.group_maxima, (n, cdiv(n_groups, block)), *arguments, **constants)
    return maxima, group


def rank_again(x: Tensor, rows: Tensor, found: Candidates, slices: int | None = None) -> Tensor:
    """Return the products of each row of `x` with the rows of its candidates, summed in float32, in parts.

    Args:
        x: `[n, d]`.
        rows: `[n_columns, d]`.
        found: candidates.
        slices: parts of the columns that are summed apart, `[slices, m]`; `None` for what the cache holds.

    Returns:
        `[slices, m]` float32, undefined where there is no candidate.
    """
    n, width = x.shape
    columns, part = 128, 32
    if slices is None:  # what all programs read at the same time: 128 columns of float32, all of bfloat16
        slices = cdiv(width, columns) if rows.itemsize > 2 else 1
    length = columns * cdiv(cdiv(width, columns), slices)
    grid = n, cdiv(width, length)
    scores = torch.empty(grid[1], len(found.found), device=x.device)
    arguments = x.contiguous(), rows.contiguous(), *found[:3], scores, len(found.found), width
    launch(programs.rank_again, grid, *arguments, PART=part, COLUMNS=columns, SLICE=length)
    return scores


def choose(scores: Tensor, found: Candidates, bias: Tensor, k: int, n_columns: int) -> tuple[Tensor, Tensor]:
    """Return the `k` best candidates of each row by score and bias.

    They are given as columns `[n, k]` int64 and values `[n, k]`.
    """
    n, cap = len(found.starts), len(found.found) // max(1, len(found.starts))
    indices = torch.empty(n, k, dtype=torch.int64, device=scores.device)
    values = torch.empty(n, k, device=scores.device)
    arguments = scores, *found[:3], bias.contiguous(), indices, values, len(found.found), n_columns, k
    launch(programs.choose, (n,), *arguments, SLICES=len(scores), CAP=max(16, cap), num_warps=1)
    return indices, values


def kth_largest(x: Tensor, count: int, length: Tensor | None = None) -> Tensor:
    """Return the `count`-th largest of the first `length` numbers of a tensor.

    It is found digit by digit, by counting.

    Args:
        x: contiguous, float32, bfloat16 or float16.
        count: in `1..length`.
        length: scalar; `None` for all.

    Returns:
        Scalar in the type of `x`; no synchronisation, and no atomic sum of floats.
    """
    width, block, n = 8 * x.itemsize, 4096, x.numel()
    length = torch.full((), n, device=x.device) if length is None else length
    counts = torch.zeros(width // 4, DIGIT, dtype=torch.int64, device=x.device)
    for digit in range(width // 4):
        arguments = x, length, counts, n, count
        launch(programs.count_digit, (cdiv(n, block),), *arguments, DIGIT=digit, WIDTH=width, BLOCK=block)
    digits = (counts[:, 1:] >= count).sum(1)
    shifts = torch.arange(width - 4, -4, -4, device=x.device)
    key = (digits << shifts).sum() - (1 << (width - 1))
    bits = torch.where(key < 0, key ^ ((1 << (width - 1)) - 1), key)
    return bits.to(torch.int32 if width == 32 else torch.int16).view(x.dtype)


def count_above(x: Tensor, maxima: Tensor, group: int, threshold: Tensor) -> Tensor:
    """Return how many entries of each row reach a threshold, `[n]` int64.

    The arguments are those of `candidates_above`.
    """
    n, n_columns = x.shape
    counts = torch.zeros(n, dtype=torch.int64, device=x.device)
    arguments = x, maxima, threshold, counts, counts, counts, 0, n_columns, maxima.shape[1]
    launch(programs.collect_above, (n,), *arguments, WRITE=False, **_lanes(n_columns, group))
    return counts


def candidates_above(
    x: Tensor, maxima: Tensor, group: int, threshold: Tensor, counts: Tensor, room: int
) -> Candidates:
    """Return all entries of all rows that reach a threshold, row by row, the first `room` of them.

    Args:
        x: `[n, n_columns]`, contiguous.
        maxima: `[n, n_groups]`, see `group_maxima`.
        group: entries of a group.
        threshold: scalar in the type of `x`.
        counts: `[n]`, see `count_above`.
        room: at most so many.
    """
    n, n_columns = x.shape
    starts = counts.cumsum(0) - counts
    found = torch.zeros(room, dtype=torch.int32, device=x.device)
    arguments = x, maxima, threshold, starts, counts, found, room, n_columns, maxima.shape[1]
    launch(programs.collect_above, (n,), *arguments, WRITE=True, **_lanes(n_columns, group))
    starts = starts.clamp_max(room)
    return Candidates(found, starts, torch.minimum(counts, room - starts), threshold.float().expand(n))


def _lanes(n_columns: int, group: int) -> dict[str, int]:
    return {"GROUP": group, "LANES": min(LANES, next_power_of_2(n_columns)), "num_warps": 4}
