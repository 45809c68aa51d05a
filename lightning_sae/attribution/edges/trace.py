"""From a score back through the layers: the graph of some images, as means over them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.edges.edges import Edges, edges_to_latents, edges_to_scores
from lightning_sae.attribution.edges.graph import Graph
from lightning_sae.attribution.edges.influence import Floats, Ints, arriving_shares, largest, sums_at
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.linearised import Rule
from lightning_sae.attribution.edges.nodes import mean_activations, n_nodes
from lightning_sae.attribution.edges.pair_sums import Pairs, PairSums
from lightning_sae.attribution.edges.passes import BESIDE
from lightning_sae.attribution.edges.targets import Targets
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.classifiers.scores import ClassScores

MAX_EDGES = 5_000_000  # about 200 MB as a table


def trace_graph(
    seen: Sequence[SeenLayer],
    scores: ClassScores,
    classes: Tensor,
    rule: Rule = "frozen",
    by_token: bool = False,
    trace: float = 1.0,
    max_traced: int | None = None,
    max_edges: int = MAX_EDGES,
    batch_size: int = CHUNK,
) -> Graph:
    """Return the graph of the score of one class an image: means over the images of all edges.

    Args:
        seen: the images at each layer, of `look`: one image, or those of a class.
        scores: of the classes, or of one prompt.
        classes: `[n]` int64, whose score it is on each image.
        rule: how the parts of the model between the layers are made linear: frozen graphs make the more
            faithful circuits, true edges agree better with the removal of one latent.
        by_token: whether a node is a latent at a token; else it is a latent, summed over the tokens.
        trace: share of a layer's influence whose latents are traced further, in (0, 1]; the others stay
            nodes without edges into them. Less than 1 saves passes: one for each latent.
        max_traced: latents of a layer that are traced further at most; `None`: as many as `trace` says.
        max_edges: that may be held.
        batch_size: images whose graph of gradients is held at a time.

    Raises:
        ValueError: images and classes that are not of one number; a class that there is not; more edges than
            may be held.
    """
    n = len(seen[0].explained.x)
    if classes.shape != (n,):
        raise ValueError(f"classes must be [n] of the {n} images, got {list(classes.shape)}")
    n_classes = len(scores.weight)
    if not bool(((classes >= 0) & (classes < n_classes)).all()):
        raise ValueError(f"classes must be in 0..{n_classes - 1}, got {sorted(set(classes.tolist()))}")
    columns, influence, total = list[Pairs](), np.ones(1), 0.0
    for place in reversed(range(len(seen))):
        width = n_nodes(seen[place].explained, by_token)
        chosen = None
        if place < len(seen) - 1:
            chosen = torch.from_numpy(largest(influence[: -len(BESIDE)], trace, max_traced))
        sums = PairSums(width + len(BESIDE), max_edges)
        for start in range(0, n, batch_size):
            rows = slice(start, min(start + batch_size, n))
            here, *later = (layer.images(rows.start, rows.stop) for layer in seen[place : place + 2])
            if later:
                found, targets = edges_to_latents(here, later[0], rule, chosen, by_token)
            else:
                found, targets = edges_to_scores(here, scores, classes[rows], rule, by_token)
                total += float(targets.value.sum())
            for pairs in _by_node(found, targets, width):
                sums.add(pairs)
        columns.insert(0, _mean(sums, n))
        influence = _flow(columns[0], influence, width + len(BESIDE))
    return _graph(seen, columns, total / n, by_token)


def _by_node(found: Edges, targets: Targets, width: int) -> Iterator[Pairs]:
    """Yield the edges by the nodes that they lead to; what stands beside the latents comes behind them."""
    yield Pairs(targets.node[found.pairs.target], found.pairs.source, found.pairs.value)
    for place, values in enumerate(found.beside.unbind(1)):
        there = values != 0
        node = targets.node[there]
        yield Pairs(node, torch.full_like(node, width + place), values[there])


def _mean(sums: PairSums, n: int) -> Pairs:
    pairs = sums.pairs()
    return pairs._replace(value=pairs.value / n)


def _flow(pairs: Pairs, influence: Floats, width: int) -> Floats:
    """Return the influence of the nodes of a layer, of that of the nodes which they lead to."""
    target, source, value = (part.numpy() for part in pairs)
    shares = arriving_shares(target, value, len(influence))
    return sums_at(source, shares * influence[target], width)


def _graph(seen: Sequence[SeenLayer], columns: Sequence[Pairs], score: float, by_token: bool) -> Graph:
    """Return the graph; a layer's nodes are numbered behind those of the layers before it."""
    n = len(seen[0].explained.x)
    tables, edges, ends = list[pd.DataFrame](), list[pd.DataFrame](), list[Ints]()
    for layer, pairs in zip(seen, columns, strict=True):
        ends.append(np.unique(pairs.source.numpy()))
        tables.append(_layer_nodes(layer, ends[-1], by_token).assign(layer=len(tables)))
    ends.append(np.zeros(1, dtype=np.int64))
    tables.append(pd.DataFrame({"kind": ["score"], "value": [score]}).assign(layer=len(tables)))
    first = np.cumsum([0, *map(len, ends)])
    for place, pairs in enumerate(columns):
        target, source, weight = (part.numpy() for part in pairs)
        columns_of = {
            "source": first[place] + np.searchsorted(ends[place], source),
            "target": first[place + 1] + np.searchsorted(ends[place + 1], target),
            "weight": weight,
        }
        edges.append(pd.DataFrame(columns_of))
    nodes = pd.concat(tables, ignore_index=True)
    nodes = nodes.fillna({"hook_point": "", "token": -1, "latent": -1}).astype({"token": int, "latent": int})
    order = ["layer", "hook_point", "kind", "token", "latent", "value"]
    return Graph.of(nodes[order], pd.concat(edges, ignore_index=True), n)


def _layer_nodes(layer: SeenLayer, used: Ints, by_token: bool) -> pd.DataFrame:
    explained = layer.explained
    width, d_sae = n_nodes(explained, by_token), explained.latents.d_sae
    means = np.append(mean_activations(explained, by_token), [np.nan] * len(BESIDE))
    latent = used < width
    kinds = np.append(np.full(width, "latent", dtype=object), BESIDE)
    return pd.DataFrame(
        {
            "hook_point": str(layer.layer.hook_point),
            "kind": kinds[used],
            "token": np.where(latent & by_token, used // d_sae, -1),
            "latent": np.where(latent, used % d_sae, -1),
            "value": means[used],
        }
    )
