"""A graph with what a reader asks of it: how each latent drives the score, and where influence leaks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from lightning_sae.attribution.edges.graph import LEAKS, Graph
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.linearised import Rule
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.scores import ClassScores


class GraphSettings(NamedTuple):
    """Settings of a graph that is drawn.

    Attributes:
        share: of the influence of the nodes that it keeps, in (0, 1].
        rule: how the parts of the model between the layers are made linear.
        trace: share of a layer's influence whose latents are traced further, in (0, 1].
        most_edges: that are drawn.
    """

    share: float = 0.8
    rule: Rule = "frozen"
    trace: float = 1.0
    most_edges: int = 2000


class TracedGraph(NamedTuple):
    """A pruned graph.

    Attributes:
        graph: pruned; its nodes have a further column `attribution`, activation x gradient of a latent to the
            score by the true gradient, as means over the images; NaN for what is no latent.
        share: of the influence that was asked for.
        leaks: what is not explained, the largest first: `hook_point`, `kind` and `influence`, in 0..1, in the
            whole graph.
    """

    graph: Graph
    share: float
    leaks: pd.DataFrame


def trace_drawn(
    seen: Sequence[SeenLayer], scores: ClassScores, classes: Tensor, settings: GraphSettings
) -> TracedGraph:
    """Return the graph of the score of one class an image, small enough to be looked at.

    Args:
        seen: the images at each layer.
        scores: of the classes, or of prompts.
        classes: `[n]` int64, whose score it is on each image.
        settings: what is kept.

    Raises:
        ValueError: as `trace_graph`, or more edges than are drawn; says what prunes.
    """
    whole = trace_graph(seen, scores, classes, settings.rule, trace=settings.trace)
    pruned = whole.prune(settings.share)
    if len(pruned.edges) > settings.most_edges:
        raise ValueError(
            f"the graph of {settings.share:.0%} of the influence has {len(pruned.edges)} edges, more than "
            f"the {settings.most_edges} that are drawn: keep a smaller share, or draw more edges"
        )
    driven = pruned.nodes.assign(attribution=_attributions(pruned, seen, scores, classes))
    return TracedGraph(replace(pruned, nodes=driven), settings.share, _leaks(whole))


def _attributions(
    graph: Graph, seen: Sequence[SeenLayer], scores: ClassScores, classes: Tensor
) -> np.ndarray:
    found = np.full(len(graph.nodes), np.nan)
    for place, layer in enumerate(seen):
        own = attribute_own(layer.explained, scores, classes)
        sums = np.bincount(own.indices.cpu(), own.values.detach().cpu(), layer.explained.latents.d_sae)
        mine = ((graph.nodes["layer"] == place) & (graph.nodes["kind"] == "latent")).to_numpy()
        found[mine] = sums[graph.nodes["latent"].to_numpy()[mine]] / graph.images
    return found


def _leaks(whole: Graph) -> pd.DataFrame:
    leaks = whole.nodes[whole.nodes["kind"].isin(LEAKS)]
    return leaks.sort_values("influence", ascending=False)[["hook_point", "kind", "influence"]]
