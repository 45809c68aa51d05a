"""A graph for a reader: it also says how each latent drives the score, and where influence leaks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from lightning_sae.attribution.edges.graph import LEAKS, Graph
from lightning_sae.attribution.edges.influence import Floats
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.linearised import Rule
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.report import compact


@dataclass(frozen=True)
class GraphSettings:
    """Settings of a graph that is drawn.

    Attributes:
        share: share of the nodes' influence that the graph keeps, in (0, 1].
        rule: how the parts of the model between the layers are made linear.
        trace: share of a layer's influence whose latents are traced further, in (0, 1].
        most_edges: largest number of edges that are drawn, at least 1.

    Raises:
        ValueError: a share is not in (0, 1], or `most_edges` is below 1.
    """

    share: float = 0.8
    rule: Rule = "frozen"
    trace: float = 1.0
    most_edges: int = 2000

    def __post_init__(self) -> None:
        for name in ("share", "trace"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.most_edges < 1:
            raise ValueError(f"most_edges, those that are drawn, must be at least 1, got {self.most_edges}")


DEFAULT = GraphSettings()


class TracedGraph(NamedTuple):
    """A pruned graph.

    Attributes:
        graph: the pruned graph; its nodes have a further column `attribution`, activation x gradient of a
            latent to the score by the true gradient, as means over the images; NaN for other nodes.
        share: share of the influence that was asked for.
        leaks: what the whole graph does not explain, the largest first: `hook_point`, `kind` and `influence`,
            in 0..1.
    """

    graph: Graph
    share: float
    leaks: pd.DataFrame


def trace_drawn(
    seen: Sequence[SeenLayer], scores: ClassScores, classes: Tensor, settings: GraphSettings
) -> TracedGraph:
    """Return the graph of the score of one class per image, small enough to be looked at.

    Args:
        seen: the images at each layer.
        scores: scores of the classes, or of prompts.
        classes: `[n]` int64, the class whose score is traced on each image.
        settings: settings that say what the graph keeps.

    Raises:
        ValueError: as `trace_graph`, or there are more edges than are drawn; the message says what prunes.
    """
    whole = trace_graph(seen, scores, classes, settings.rule, trace=settings.trace)
    found = pruned(whole, settings.share, seen, scores, classes)
    if len(found.graph.edges) > settings.most_edges:
        raise ValueError(
            f"the graph of {percent_of(settings.share)} of the influence has {len(found.graph.edges)} edges, "
            f"more than the {settings.most_edges} that are drawn: keep less of it (share), or draw more "
            "(most_edges)"
        )
    return found


def pruned(
    whole: Graph, share: float, seen: Sequence[SeenLayer], scores: ClassScores, classes: Tensor
) -> TracedGraph:
    """Return the part of a graph that has a share of the influence, with its attributions and leaks."""
    graph = whole.prune(share)
    driven = graph.nodes.assign(attribution=_attributions(graph, seen, scores, classes))
    return TracedGraph(replace(graph, nodes=driven), share, _leaks(whole))


def percent_of(share: float) -> str:
    """Return a share that a user has set, to three digits.

    Example:
        >>> percent_of(0.8), percent_of(0.999)
        ('80 %', '99.9 %')
    """
    return f"{compact(100 * share)} %"


def _attributions(graph: Graph, seen: Sequence[SeenLayer], scores: ClassScores, classes: Tensor) -> Floats:
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
