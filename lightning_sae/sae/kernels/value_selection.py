"""Which latents are active where no number per token is fixed: entries of a dense product by value."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_sae.sae.kernels import dense
from lightning_sae.sae.kernels import distributed as ranks
from lightning_sae.sae.kernels.backend import Kernels, uses_triton
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.topk_selection import (
    ROUNDING,
    TRITON_K,
    Chosen,
    Selection,
    Spare,
    chunks_of_pre_activations,
    full_precision_of,
    in_precision,
    make_finder,
    resolve,
    rounding,
    top_k,
)
from lightning_sae.sae.kernels.workspace import Workspace

MARGIN = 1.1  # times the wanted entries: groups whose largest entry a screening takes for a candidate
ROOM = 2  # times the wanted entries: candidates of a batch that there is room for


class Entries(NamedTuple):
    """Some entries of a dense product.

    Attributes:
        values: `[nnz]` in full precision, without a gradient.
        pattern: where they are, by token.
        spare: a second selection, of so many latents of each token; `None` if none was asked for.
    """

    values: Tensor
    pattern: Pattern
    spare: Chosen | None = None


@torch.no_grad()
def select_above(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    floor: Tensor | float,
    selection: Selection = "exact",
    workspace: Workspace | None = None,
    kernels: Kernels = "auto",
    spare: Spare | None = None,
) -> Entries:
    """Return the entries of `x @ rows.T + bias` that are above a floor, without a gradient.

    Their number decides the shape of the result: a GPU is waited for in every chunk of tokens. Triton screens
    them by a product in bf16, less the bound on its rounding, so that none is missed; where many are above
    the floor, as in an autoencoder that has just been made, the product is made anew in full precision.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        floor: of all latents, or `[d_sae]` of each.
        selection: as in `select`; with PyTorch's kernels always `exact`.
        workspace: where the pre-activations of a chunk may take their memory from.
        kernels: see `uses_triton`.
        spare: latents among which a second selection is made.

    Returns:
        The entries, by token and latent.

    Example:
        >>> values, pattern, _ = select_above(torch.eye(2), torch.eye(2), torch.tensor([-0.5, 0.0]), 0.0)
        >>> values.tolist(), pattern.indices.tolist(), pattern.offsets.tolist()
        ([0.5, 1.0], [0, 1], [0, 1, 2])
    """
    if uses_triton(x, kernels) and resolve(selection, x) != "exact":
        floors = torch.as_tensor(floor).to(bias).expand(len(rows))
        return _triton_above(x, rows, bias, floors, workspace or Workspace(), kernels, spare)
    places, values = [x.new_zeros(0, dtype=torch.int64)], [x.new_zeros(0)]
    finder = None if spare is None else make_finder(x, "exact", spare.k, spare, kernels, False)
    for first, pre_acts in _chunks(x, rows, bias, workspace):
        found = (pre_acts > floor).view(-1).nonzero().squeeze(1)
        places.append(found + first)
        values.append(pre_acts.view(-1)[found])
        if finder:
            finder.look(pre_acts)
    second = finder.chosen(x, rows, bias) if finder else None
    return Entries(torch.cat(values), _pattern(torch.cat(places), len(x), len(rows), kernels), second)


@torch.no_grad()
def select_largest(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    count: int,
    selection: Selection = "exact",
    workspace: Workspace | None = None,
    kernels: Kernels = "auto",
    spare: Spare | None = None,
) -> Entries:
    """Return the largest entries of `x @ rows.T + bias`, without a gradient.

    They are the largest of all tokens of all ranks together.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        count: in `1..n * d_sae`, those that are taken of each rank on average.
        selection: as in `select`; with PyTorch's kernels and with several ranks always `exact`.
        workspace: where the pre-activations of a chunk may take their memory from.
        kernels: see `uses_triton`. Triton's hold the pre-activations of the whole batch.
        spare: latents among which a second selection is made.

    Returns:
        The entries, by token. Of equal entries the first ones are taken, rank by rank.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [0.1, 3.0]])
        >>> values, pattern, _ = select_largest(x, torch.eye(2), torch.zeros(2), count=2)
        >>> values.tolist(), pattern.indices.tolist(), pattern.offsets.tolist()
        ([2.0, 3.0], [1, 1], [0, 1, 2])
    """
    n_ranks = ranks.world_size()
    if n_ranks == 1 and uses_triton(x, kernels) and (spare is None or spare.k <= TRITON_K):
        return _triton_largest(x, rows, bias, count, selection, kernels, spare)
    most = min(count * n_ranks, len(x) * len(rows))  # the other ranks may have none of them
    places, values = x.new_zeros(0, dtype=torch.int64), x.new_zeros(0)
    finder = None if spare is None else make_finder(x, "exact", spare.k, spare, kernels, False)
    for first, pre_acts in _chunks(x, rows, bias, workspace):
        flat = pre_acts.view(-1)
        best = _largest(flat, min(most, len(flat)))
        places, values = torch.cat([places, best + first]), torch.cat([values, flat[best]])
        if len(values) > most:
            best = _largest(values, most)
            places, values = places[best], values[best]
        if finder:
            finder.look(pre_acts)
    if n_ranks > 1:
        chosen = ranks.largest(values, count * n_ranks)
        places, values = places[chosen], values[chosen]
    second = finder.chosen(x, rows, bias) if finder else None
    return Entries(values, _pattern(places, len(x), len(rows), kernels), second)


def _triton_largest(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    count: int,
    selection: Selection,
    kernels: Kernels,
    spare: Spare | None,
) -> Entries:
    """Return the largest entries of `x @ rows.T + bias`, found with Triton's kernels.

    The steps are a threshold from the maxima of groups, the candidates that reach it, a new ranking, and an
    exact threshold.
    """
    from lightning_sae.sae.kernels import triton_selection as triton

    how, n, d_sae = resolve(selection, x), len(x), len(rows)
    with full_precision_of(x) as mixed:
        pre_acts = torch.addmm(*_product(how, x, rows, bias))
        maxima, group = triton.group_maxima(pre_acts, math.ceil(count / max(1, n)))
        wanted = min(count if how == "exact" else math.ceil(MARGIN * count), maxima.numel())
        threshold = triton.kth_largest(maxima, wanted)
        counts, room = triton.count_above(pre_acts, maxima, group, threshold), min(n * d_sae, ROOM * wanted)
        found = triton.candidates_above(pre_acts, maxima, group, threshold, counts, room)
        columns = found.found.long()
        if how == "exact":
            scores = pre_acts.view(-1)[
                _tokens(found.starts, found.counts, len(columns)) * d_sae + columns
            ].float()
        else:
            precise = (x.bfloat16(), rows.bfloat16()) if mixed else (x, rows)
            scores = triton.rank_again(*precise, found, slices=1)[0] + bias[columns]
        values, pattern = _first_of_equals(scores, found, triton, count, d_sae, kernels)
        if spare is None:
            return Entries(values, pattern)
        finder = make_finder(x, how, spare.k, spare, kernels, mixed)
        finder.look(pre_acts)
        return Entries(values, pattern, finder.chosen(x, rows, bias))


def _triton_above(
    x: Tensor,
    rows: Tensor,
    bias: Tensor,
    floors: Tensor,
    workspace: Workspace,
    kernels: Kernels,
    spare: Spare | None,
) -> Entries:
    """Return the candidates that may be above their floors by a product in bf16, and which of them are."""
    from lightning_sae.sae.kernels import triton_selection as triton

    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    first, over = 0, bias - floors
    with full_precision_of(x) as mixed:
        finder = make_finder(x, "screened", spare.k, spare, kernels, mixed) if spare else None
        precise = rows.bfloat16() if mixed else rows
        bound = rounding(x, rows, over).amax() if len(x) else bias.new_zeros(())
        threshold = -(1 + 4 * ROUNDING) * bound  # and that of the result and of the threshold
        for pre_acts in chunks_of_pre_activations(x.bfloat16(), rows.bfloat16(), over.bfloat16(), workspace):
            some = x[first : first + len(pre_acts)]
            maxima, group = triton.group_maxima(pre_acts, 1)
            low = threshold.to(pre_acts)
            counts = triton.count_above(pre_acts, maxima, group, low)
            n_found = int(counts.sum())
            if n_found > dense.DENSE * pre_acts.numel():
                exact = torch.addmm(bias, some, rows.T)
                tokens, columns = (exact > floors).nonzero(as_tuple=True)
                values = exact[tokens, columns]
            else:
                found = triton.candidates_above(pre_acts, maxima, group, low, counts, n_found)
                columns, tokens = found.found.long(), _tokens(found.starts, found.counts, n_found)
                values = triton.rank_again(some.to(precise), precise, found, slices=1)[0] + bias[columns]
                above = (values > floors[columns]).nonzero().squeeze(1)
                tokens, columns, values = tokens[above], columns[above], values[above]
            parts.append((tokens + first, columns, values))
            if finder:
                finder.look(pre_acts.add_(floors))
            first += len(pre_acts)
    tokens, columns, values = map(torch.cat, zip(*parts, strict=True))
    offsets = torch.searchsorted(tokens, torch.arange(len(x) + 1, device=x.device))
    pattern = Pattern(columns, offsets, len(rows), kernels)
    return Entries(values, pattern, finder.chosen(x, rows, bias) if finder else None)


def _product(how: Selection, x: Tensor, rows: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, rows, bias = in_precision(how, x, rows, bias)
    return bias, x, rows.T


def _tokens(starts: Tensor, counts: Tensor, n_places: int) -> Tensor:
    """Return the token of each place of a list that has the entries of one token after the other."""
    places = torch.arange(n_places, device=starts.device)
    return torch.searchsorted(starts + counts, places, right=True).clamp_max(len(starts) - 1)


def _first_of_equals(
    scores: Tensor, found: Any, triton: Any, count: int, d_sae: int, kernels: Kernels
) -> tuple[Tensor, Pattern]:
    """Return the `count` candidates with the largest scores, in their order; of equal ones the first."""
    total = found.counts.sum()
    least = triton.kth_largest(scores, count, total)
    inside = torch.arange(len(scores), device=scores.device) < total
    above, equal = (scores > least) & inside, (scores == least) & inside
    chosen = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    before = torch.cat([total.new_zeros(1), chosen.cumsum(0)])
    place = torch.where(chosen, before[:-1], count)  # the last place is for the rest
    indices = total.new_zeros(count + 1).scatter_(0, place, found.found.long())[:-1]
    values = scores.new_zeros(count + 1).scatter_(0, place, scores)[:-1]
    offsets = torch.cat([before[found.starts], total.new_full((1,), count)])
    return values, Pattern(indices, offsets, d_sae, kernels)


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the places of the `count` largest values, ascending; of equal ones the first."""
    if not count:
        return values.new_zeros(0, dtype=torch.int64)
    lowest = values[top_k(values[None], count)[0]].amin()
    above, equal = values > lowest, values == lowest
    chosen = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    place = torch.where(chosen, chosen.cumsum(0) - 1, count)  # the last place is for the rest
    places = torch.arange(len(values), device=values.device)
    return places.new_zeros(count + 1).scatter_(0, place, places)[:-1]


def _chunks(
    x: Tensor, rows: Tensor, bias: Tensor, workspace: Workspace | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield the pre-activations of some tokens, and the place of their first one in the whole product."""
    first = 0
    with full_precision_of(x):
        for pre_acts in chunks_of_pre_activations(x, rows, bias, workspace or Workspace()):
            yield first, pre_acts
            first += pre_acts.numel()


def _pattern(places: Tensor, n: int, d_sae: int, kernels: Kernels) -> Pattern:
    """Return the pattern of ascending places in `[n, d_sae]`."""
    ends = torch.arange(n + 1, device=places.device) * d_sae
    return Pattern(places % d_sae, torch.searchsorted(places, ends), d_sae, kernels)
