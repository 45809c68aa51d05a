"""Which latents are active where no number per token is fixed: entries of a dense product by value."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_sae.sae import ranks
from lightning_sae.sae.pattern import Pattern
from lightning_sae.sae.selection import chunks_of_pre_activations, full_precision, top_k
from lightning_sae.sae.workspace import Workspace


@torch.no_grad()
def select_positive(
    x: Tensor, rows: Tensor, bias: Tensor, workspace: Workspace | None = None
) -> tuple[Tensor, Pattern]:
    """The entries of `x @ rows.T + bias` that are > 0, without a gradient.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        workspace: where the pre-activations of a chunk may take their memory from.

    Returns:
        `[nnz]` values in full precision, and where they are, by token and latent.

    Example:
        >>> values, pattern = select_positive(torch.eye(2), torch.eye(2), torch.tensor([-0.5, 0.0]))
        >>> values.tolist(), pattern.indices.tolist(), pattern.offsets.tolist()
        ([0.5, 1.0], [0, 1], [0, 1, 2])
    """
    places, values = [x.new_zeros(0, dtype=torch.int64)], [x.new_zeros(0)]
    for first, pre_acts in _flat_chunks(x, rows, bias, workspace):
        found = (pre_acts > 0).nonzero().squeeze(1)
        places.append(found + first)
        values.append(pre_acts[found])
    return torch.cat(values), _pattern(torch.cat(places), len(x), len(rows))


@torch.no_grad()
def select_largest(
    x: Tensor, rows: Tensor, bias: Tensor, count: int, workspace: Workspace | None = None
) -> tuple[Tensor, Pattern]:
    """The largest entries of `x @ rows.T + bias`, of all tokens of all ranks together, without a gradient.

    Args:
        x: `[n, d_in]`.
        rows: `[d_sae, d_in]`.
        bias: `[d_sae]`.
        count: in `1..n * d_sae`, those that are taken of each rank on average.
        workspace: where the pre-activations of a chunk may take their memory from.

    Returns:
        `[nnz]` values in full precision, and where they are, by token and latent. Of equal entries the first
        ones are taken, rank by rank.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [0.1, 3.0]])
        >>> values, pattern = select_largest(x, torch.eye(2), torch.zeros(2), count=2)
        >>> values.tolist(), pattern.indices.tolist(), pattern.offsets.tolist()
        ([2.0, 3.0], [1, 1], [0, 1, 2])
    """
    n_ranks = ranks.world_size()
    most = min(count * n_ranks, len(x) * len(rows))  # the other ranks may have none of them
    places, values = x.new_zeros(0, dtype=torch.int64), x.new_zeros(0)
    for first, pre_acts in _flat_chunks(x, rows, bias, workspace):
        best = _largest(pre_acts, min(most, len(pre_acts)))
        places, values = torch.cat([places, best + first]), torch.cat([values, pre_acts[best]])
        if len(values) > most:
            best = _largest(values, most)
            places, values = places[best], values[best]
    if n_ranks > 1:
        chosen = ranks.largest(values, count * n_ranks)
        places, values = places[chosen], values[chosen]
    return values, _pattern(places, len(x), len(rows))


def _largest(values: Tensor, count: int) -> Tensor:
    """Places of the `count` largest values, ascending; of equal ones the first."""
    if not count:
        return values.new_zeros(0, dtype=torch.int64)
    lowest = values[top_k(values[None], count)[0]].amin()
    chosen = (values >= lowest).nonzero().squeeze(1)
    if len(chosen) <= count:
        return chosen
    last = (values[chosen] == lowest).nonzero().squeeze(1)[count - len(chosen) :]
    keep = torch.ones_like(chosen, dtype=torch.bool).index_fill_(0, last, False)
    return chosen[keep]


def _flat_chunks(
    x: Tensor, rows: Tensor, bias: Tensor, workspace: Workspace | None
) -> Iterator[tuple[int, Tensor]]:
    """Pre-activations of some tokens as one row, and the place of its first one."""
    first = 0
    with torch.autocast(x.device.type, enabled=False), full_precision():
        for pre_acts in chunks_of_pre_activations(x, rows, bias, workspace or Workspace()):
            yield first, pre_acts.view(-1)
            first += pre_acts.numel()


def _pattern(places: Tensor, n: int, d_sae: int) -> Pattern:
    """The pattern of ascending places in `[n, d_sae]`."""
    ends = torch.arange(n + 1, device=places.device) * d_sae
    return Pattern(places % d_sae, torch.searchsorted(places, ends), d_sae)
