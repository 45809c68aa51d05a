"""Whether a part of the graph makes the score: all other latents are set to their means."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lightning_sae.attribution.edges.graph import Graph
from lightning_sae.attribution.edges.layers import Layer, SeenLayer
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import Tail
from lightning_sae.clip.hooks import visited
from lightning_sae.metrics import interval
from lightning_sae.metrics.bootstrap import Interval
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag

Circuit = Sequence[Tensor]
"""`[d_sae]` bool of each layer, the latents that are in it."""


def circuit_of(graph: Graph, seen: Sequence[SeenLayer]) -> list[Tensor]:
    """Return the latents that a graph has, of each layer.

    Args:
        graph: pruned.
        seen: images at the layers that it was traced through.
    """
    latents = graph.nodes[graph.nodes["kind"] == "latent"]
    found = []
    for place, layer in enumerate(seen):
        kept = torch.zeros(layer.layer.sae.d_sae, dtype=torch.bool)
        kept[torch.tensor(latents.loc[latents["layer"] == place, "latent"].to_numpy())] = True
        found.append(kept)
    return found


def strongest_circuit(graph: Graph, seen: Sequence[SeenLayer], share: float) -> list[Tensor]:
    """Return the latents of each layer with the largest influence.

    Args:
        graph: whole.
        seen: images at the layers that it was traced through.
        share: of the latents of each layer that are active on the images, in (0, 1]; one at least.
    """
    latents = graph.nodes[graph.nodes["kind"] == "latent"]
    groups = latents.groupby("layer", group_keys=False)["influence"]
    rank, size = groups.rank(ascending=False, method="first"), groups.transform("size")
    return circuit_of(replace(graph, nodes=latents[rank <= (share * size).round().clip(1)]), seen)


def random_circuit(circuit: Circuit, seen: Sequence[SeenLayer], seed: int) -> list[Tensor]:
    """Return as many latents of each layer, drawn among those that are active on the images.

    Args:
        circuit: whose sizes it shall have.
        seen: the images at each layer.
        seed: of the draw.
    """
    random, found = torch.Generator().manual_seed(seed), []
    for kept, layer in zip(circuit, seen, strict=True):
        alive = layer.explained.latents.fired().nonzero().flatten().cpu()
        drawn = torch.randperm(len(alive), generator=random)[: int(kept.sum())]
        found.append(torch.zeros_like(kept).index_fill(0, alive[drawn], True))
    return found


def latent_means(seen: Sequence[SeenLayer]) -> list[Tensor]:
    """Return the mean activation of each latent over the tokens of some images, `[d_sae]` of each layer.

    The images should be of all classes: the mean over a class knows the class.
    """
    found = []
    for layer in seen:
        latents = layer.explained.latents
        sums = latents.values.new_zeros(latents.d_sae, dtype=torch.float64)
        found.append(
            (sums.index_add_(0, latents.indices, latents.values.double()) / len(latents)).to(latents.values)
        )
    return found


@torch.no_grad()
def circuit_scores(
    seen: Sequence[SeenLayer],
    circuit: Circuit,
    means: Sequence[Tensor],
    scores: ClassScores,
    classes: Tensor,
    batch_size: int = CHUNK,
) -> Tensor:
    """Return the score of each image with all latents outside of a circuit set to their means.

    At each layer the autoencoder reads what arrives there, edited at the layers before; the latents outside
    of the circuit are replaced, the others stay as they are read, as do error term and bias: `x_edited = x +
    sum_{j not in circuit} (mean_j - a_j) w_j`.

    Args:
        seen: the images at each layer.
        circuit: latents that are left alone.
        means: of `latent_means`.
        scores: of the classes.
        classes: `[n]` int64, whose score it is.
        batch_size: images in one run.

    Returns:
        `[n]`.
    """
    first, *later = zip([layer.layer for layer in seen], circuit, means, strict=True)
    explained = seen[0].explained
    assert isinstance(explained.tail, Tail)
    found = []
    with ExitStack() as stack:
        for layer, kept, mean in later:
            visit = partial(_without, layer, kept, mean)
            stack.enter_context(visited(explained.tail.clip, layer.hook_point, visit))
        for start in range(0, len(classes), batch_size):
            rows = slice(start, min(start + batch_size, len(classes)))
            part = explained.images(rows.start, rows.stop)
            embeddings = explained.tail(_without(*first, part.x), part.context).to(scores.weight)
            found.append(scores.of(classes[rows])(embeddings, slice(0, len(embeddings))))
    return torch.cat(found)


def _without(layer: Layer, kept: Tensor, mean: Tensor, x: Tensor) -> Tensor:
    tokens = x.flatten(0, 1)
    latents, rows = layer.sae.encode(tokens), layer.sae.W_dec.to(x)
    kept, mean = kept.to(x.device), mean.to(x)
    removed = torch.where(kept[latents.indices], 0.0, latents.values.to(x))
    put_in = torch.where(kept, 0.0, mean) @ rows
    return (tokens - bag(removed, rows, Pattern.of(latents)) + put_in).view_as(x)


def faithfulness(
    seen: Sequence[SeenLayer],
    circuit: Circuit,
    means: Sequence[Tensor],
    scores: ClassScores,
    classes: Tensor,
    confidence: float = 0.95,
    batch_size: int = CHUNK,
) -> tuple[Interval, Interval]:
    """Return the faithfulness of a circuit and of its complement, with bootstrap intervals over the images.

    `(m(C) - m(none)) / (m(full) - m(none))`, `m` the mean score with all latents outside at their means
    (Marks et al. 2024, *Sparse feature circuits*, arXiv 2403.19647; here the error term always stays).

    Args:
        seen: the images at each layer.
        circuit: its latents.
        means: of `latent_means`, over images of all classes.
        scores: of the classes.
        classes: `[n]` int64, whose score it is.
        confidence: coverage of the intervals.
        batch_size: images in one run.

    Returns:
        Of the circuit, and of all latents outside; NaN where the latents do not raise the mean score.
    """
    everything = [torch.ones_like(kept) for kept in circuit]
    complement = [~kept for kept in circuit]
    nothing = [torch.zeros_like(kept) for kept in circuit]
    full, none, inside, outside = (
        circuit_scores(seen, kept, means, scores, classes, batch_size).cpu()
        for kept in (everything, nothing, circuit, complement)
    )
    unit = full - none
    return interval(inside - none, unit, confidence), interval(outside - none, unit, confidence)
