"""Edges by passes through a linear map: backward from the targets, or forward from the sources."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_sae.attribution.edges.linearised import Linearised
from lightning_sae.attribution.edges.pair_sums import Pairs
from lightning_sae.attribution.edges.sources import Sources
from lightning_sae.attribution.edges.targets import Targets
from lightning_sae.attribution.gradient import attribute

BESIDE = ("error", "bias", "outside")
"""Sources beside latents: the reconstruction error, the decoder bias, and other tokens than the selected."""

Parts = Iterator[tuple[Pairs, Tensor, Tensor]]
"""Pairs of target rows and sources; rows of targets; their part of what stands beside, `[b, 3]`."""


def pulled(sources: Sources, linearised: Linearised, targets: Targets) -> Parts:
    """Yield the edges into one target of each image after the other: a pass backward for each."""
    explained, n = sources.explained, targets.n
    for place in range(targets.most):
        rows = (targets.place == place).nonzero().flatten()
        image = targets.image[rows]
        g, g_context = linearised.pull(targets.cotangent(place))
        values = attribute(explained.latents, explained.W_dec, g.flatten(0, 1))
        row = torch.full((n,), -1, device=image.device).index_put((image,), rows)[sources.image]
        mine = (row >= 0) & sources.active
        outside = torch.zeros_like(g[:, 0, 0])
        if g_context is not None and explained.context is not None:
            outside = (g_context * explained.context).flatten(1).sum(1)
        parts = [(g * sources.seen.error).sum((1, 2)), (g * sources.seen.bias).sum((1, 2)), outside]
        yield Pairs(row[mine], sources.node[mine], values[mine]), rows, torch.stack(parts, 1)[image]


def pushed(sources: Sources, linearised: Linearised, targets: Targets, chunk_size: int = 16) -> Parts:
    """Yield the edges from one source of each image after the other: a pass forward for each."""
    for start in range(0, sources.most, chunk_size):
        places = range(start, min(start + chunk_size, sources.most))
        for place, y in zip(places, linearised.push(sources.tangents(places)), strict=True):
            node = torch.full((targets.n,), -1, device=y.device)
            here = sources.place == place
            node[sources.row_image[here]] = sources.row_node[here]
            of_target = node[targets.image]
            rows = (of_target >= 0).nonzero().flatten()
            nothing = rows[:0], targets.value.new_zeros(0, len(BESIDE))
            yield Pairs(rows, of_target[rows], targets.read(y)[rows]), *nothing
    error = sources.seen.error
    changes = [*linearised.push(torch.stack([error, sources.seen.bias.expand_as(error)]))]
    outside = linearised.push_context()
    changes.append(torch.zeros_like(changes[0]) if outside is None else outside)
    beside = torch.stack([targets.read(y) for y in changes], 1)
    rows = torch.arange(len(targets), device=error.device)
    yield Pairs(rows[:0], rows[:0], beside[:0, 0]), rows, beside
