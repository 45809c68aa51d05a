"""The graph of an image and a score, or of a class: latents of several layers, and their edges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lightning_sae.attribution.edges.influence import Floats, Influence, influence, largest

Bools = NDArray[np.bool_]

LEAKS = ("error", "outside")
"""Kinds of nodes that no latent explains."""


@dataclass(frozen=True)
class Graph:
    """Nodes and the edges between them, means over some images.

    Attributes:
        nodes: a row per node, by its number: `layer` (0 for the earliest; the score stands behind the last),
            `hook_point`, `kind` (`latent`, `error`, `bias`, `outside`, `score`), `token` and `latent` (-1
            where there is none), `value` (mean activation, or score), `influence`.
        edges: a row per edge: `source`, `target`, `weight` (activation x gradient, in the units of the
            target), `influence`.
        images: how many the means are over.
        replacement: in 0..1, what of the influence comes from the latents of the earliest layer, and neither
            from errors and other tokens nor from latents that were not traced further. A bias counts for
            neither.
        completeness: in 0..1, what of the magnitudes that arrive at nodes comes from no error and no other
            token, each node weighted by its influence.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    images: int
    replacement: float
    completeness: float

    @classmethod
    def of(cls, nodes: pd.DataFrame, edges: pd.DataFrame, images: int) -> "Graph":
        """Return the graph of nodes and edges, with the influence of each and both scores.

        The nodes are numbered from 0.
        """
        output = _output(nodes)
        source, target, weight = (edges[name].to_numpy() for name in ("source", "target", "weight"))
        found = influence(source, target, weight, output)
        return cls(
            nodes.assign(influence=found.nodes + output),
            edges.assign(influence=found.edges),
            images,
            _replacement(nodes, edges, found),
            _completeness(nodes, edges, found),
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.nodes)} nodes, {len(self.edges)} edges, {self.images} images, "
            f"replacement {self.replacement:.2f}, completeness {self.completeness:.2f})"
        )

    def prune(self, share: float = 0.8, edge_share: float = 0.98) -> "Graph":
        """Return the fewest nodes that have a share of the influence, and of their edges the fewest.

        A latent that nothing leads on from is left out, and so is one that had edges into it and has none
        left. Both scores stay those of the whole graph.

        Args:
            share: of the influence of all nodes but the score and the biases, in (0, 1]. A bias stays that
                has as much as the least of them.
            edge_share: of the influence of the edges between the nodes that are left but those from biases,
                in (0, 1]. An edge from a bias stays that has as much as the least of them.

        Raises:
            ValueError: a share that is none.
        """
        inner = ~self.nodes["kind"].isin(["score", "bias"])
        least = _least(self.nodes.loc[inner, "influence"].to_numpy(), share)
        nodes = self.nodes[(self.nodes["influence"] >= least) | (self.nodes["kind"] == "score")]
        edges = _among(self.edges, nodes.index)
        number = pd.Series(np.arange(len(nodes)), nodes.index)
        source, target = (number[edges[name]].to_numpy() for name in ("source", "target"))
        found = influence(source, target, edges["weight"].to_numpy(), _output(nodes))
        edges = edges[_largest_edges(nodes, edges, found.edges, edge_share)]
        nodes, edges = _connected(nodes, edges, set(self.edges["target"]))
        return replace(self, nodes=nodes, edges=edges)

    @cached_property
    def leaks(self) -> pd.Series:
        """The share of the magnitudes that arrive at a node from errors and other tokens, by node, in 0..1.

        Nodes without edges into them are left out. A pruned graph has lost some edges: ask the whole one.
        """
        magnitude = self.edges["weight"].abs()
        leak = self.edges["source"].map(self.nodes["kind"].isin(LEAKS))
        arriving = magnitude.groupby(self.edges["target"]).sum()
        return magnitude.where(leak, 0.0).groupby(self.edges["target"]).sum() / arriving

    @cached_property
    def _described(self) -> pd.DataFrame:
        return self.nodes[["layer", "hook_point", "kind", "token", "latent", "value"]]

    def reads(self, node: int) -> pd.DataFrame:
        """Return the edges into a node with what they come from, the largest magnitude first."""
        return self._ends("target", node, "source")

    def writes(self, node: int) -> pd.DataFrame:
        """Return the edges out of a node with what they lead to, the largest magnitude first."""
        return self._ends("source", node, "target")

    def node(self, layer: int, latent: int, token: int = -1) -> int:
        """Return the number of a latent's node.

        Raises:
            ValueError: the latent is dead or not active on these images, or has been pruned.
        """
        nodes = self.nodes
        mine = (nodes["kind"] == "latent") & (nodes["layer"] == layer) & (nodes["latent"] == latent)
        found = nodes.index[mine & (nodes["token"] == token)]
        if not len(found):
            at = "" if token < 0 else f" at token {token}"
            raise ValueError(
                f"latent {latent} of layer {layer}{at} is not in the graph: it is dead, not active on these "
                "images, or was pruned; see graph.nodes"
            )
        return int(found[0])

    def _ends(self, end: str, node: int, other: str) -> pd.DataFrame:
        if node not in self.nodes.index:
            raise ValueError(f"the graph has no node {node}; see graph.nodes")
        edges = self.edges[self.edges[end] == node].sort_values("weight", key=np.abs, ascending=False)
        return edges[[other, "weight", "influence"]].join(self._described, on=other)


def paths(graph: Graph, start: int | None = None, end: int | None = None, top: int = 20) -> pd.DataFrame:
    """Return the strongest paths between two nodes, or from the earliest layer to the score.

    The weight of a path is `prod of its edges / prod of the values of the nodes between`, by the chain rule:
    exact on one image with nodes by token. Its influence is the product of the shares.

    Args:
        graph: pruned, or whole.
        start: node that they come from; `None`: any latent of the earliest layer.
        end: node that they lead to; `None`: the score.
        top: how many.

    Returns:
        Columns `nodes` (a tuple of numbers, from start to end), `weight` and `influence`, the largest
        influence first.
    """
    nodes, edges = graph.nodes, graph.edges
    end = int(nodes.index[nodes["kind"] == "score"][0]) if end is None else end
    values = dict(zip(nodes.index, nodes["value"].to_numpy(np.float64), strict=True))
    into = edges.groupby("target")["weight"].apply(lambda weight: weight.abs().sum())
    shares = edges["weight"].abs() / edges["target"].map(into)
    arriving = {
        target: list(zip(part["source"], part["weight"], shares[part.index], strict=True))
        for target, part in edges.groupby("target")
    }
    earliest = nodes.index[(nodes["kind"] == "latent") & (nodes["layer"] == 0)]
    starts = set(earliest) if start is None else {start}
    found: list[_Walk] = []
    todo = [_Walk(-1.0, (end,), 1.0)]
    while todo and len(found) < top:  # the largest share first: no longer walk has a larger one
        share, walked, weight = heappop(todo)
        first = walked[0]
        if len(walked) > 1 and first in starts:
            found.append(_Walk(-share, walked, weight))
        scale = 1.0 if len(walked) == 1 else values[first]
        for source, w, s in arriving.get(first, []):
            heappush(todo, _Walk(share * s, (int(source), *walked), weight * w / scale))
    return pd.DataFrame(found, columns=["influence", "nodes", "weight"])[["nodes", "weight", "influence"]]


class _Walk(NamedTuple):
    """A part of a path, from some node to its end; the influence, negative while it waits for its turn."""

    influence: float
    nodes: tuple[int, ...]
    weight: float


def _output(nodes: pd.DataFrame) -> Floats:
    """Return the weight of each node as an output: 1 for the score."""
    return (nodes["kind"] == "score").to_numpy().astype(np.float64)


def _least(values: Floats, share: float) -> float:
    """Return the least of the fewest values that make up a share; above all where there are none."""
    return float(np.min(values[largest(values, share)], initial=np.inf))


def _largest_edges(nodes: pd.DataFrame, edges: pd.DataFrame, values: Floats, share: float) -> Bools:
    """Return which edges make up a share of those from no bias, or have as much as the least of these."""
    bias = edges["source"].isin(nodes.index[nodes["kind"] == "bias"]).to_numpy()
    kept: Bools = (values >= _least(values[~bias], share)) & (values > 0)
    return kept


def _replacement(nodes: pd.DataFrame, edges: pd.DataFrame, found: Influence) -> float:
    kind, first = nodes["kind"], nodes["layer"] == 0
    ends = ~nodes.index.isin(edges["target"]) & (kind != "bias")
    total = float(found.nodes[ends].sum())
    return float(found.nodes[ends & (kind == "latent") & first].sum()) / total if total else float("nan")


def _completeness(nodes: pd.DataFrame, edges: pd.DataFrame, found: Influence) -> float:
    leaks = nodes["kind"].isin(LEAKS).to_numpy()[edges["source"].to_numpy()]
    total = float(found.edges.sum())
    return float(found.edges[~leaks].sum()) / total if total else float("nan")


def _among(edges: pd.DataFrame, kept: Sequence[int] | pd.Index) -> pd.DataFrame:
    return edges[edges["source"].isin(kept) & edges["target"].isin(kept)]


def _connected(
    nodes: pd.DataFrame, edges: pd.DataFrame, traced: set[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what is left without nodes that lead nowhere or have lost all the edges into them."""
    while True:
        leads_on = nodes.index.isin(edges["source"]) | (nodes["kind"] == "score")
        fed = nodes.index.isin(edges["target"]) | ~nodes.index.isin(list(traced)) | (nodes["kind"] == "score")
        kept = nodes[leads_on & fed]
        if len(kept) == len(nodes):
            return nodes, edges
        nodes, edges = kept, _among(edges, kept.index)
