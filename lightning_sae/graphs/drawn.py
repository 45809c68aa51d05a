"""A graph as the script of a page draws it: nodes in columns, in the order in which they stand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lightning_sae.attribution.edges.graph import paths
from lightning_sae.browser import rounded
from lightning_sae.graphs.layers import GraphLayer
from lightning_sae.graphs.layout import barycentre_order
from lightning_sae.graphs.traced import TracedGraph
from lightning_sae.graphs.trust import said_trust
from lightning_sae.report import plain

KINDS = ("latent", "error", "outside", "bias", "score")  # from the top of a column to its foot
PATHS = 8  # that are listed

Foreign = Callable[[int, list[int]], Sequence[bool]]
"""Function of a layer's number and latents: whether each latent does not mean what the score is about."""
Pictures = Callable[[int, int], dict[str, Any]]
"""Function of a layer's number and a latent: `tops`, its images' places on the sheets, and maybe `map`."""


def named_nodes(traced: TracedGraph, layers: Sequence[GraphLayer], foreign: Foreign) -> pd.DataFrame:
    """Return the nodes of a graph with the further columns `label`, `named` and `unexpected`.

    A latent is unexpected if it raises the score without meaning what the score is about.
    """
    nodes = traced.graph.nodes.assign(label="", named=False, unexpected=False)
    for place, layer in enumerate(layers):
        mine = nodes.index[(nodes["layer"] == place) & (nodes["kind"] == "latent")]
        latents = [int(j) for j in nodes.loc[mine, "latent"]]
        names = [layer.name(j) for j in latents]
        nodes.loc[mine, "label"] = [name.label for name in names]
        nodes.loc[mine, "named"] = [name.named for name in names]
        if latents:
            raises = (nodes.loc[mine, "attribution"] > 0).to_numpy()
            nodes.loc[mine, "unexpected"] = raises & np.asarray(foreign(place, latents), dtype=bool)
    return nodes


def drawn_graph(
    traced: TracedGraph, nodes: pd.DataFrame, layers: Sequence[GraphLayer], pictures: Pictures
) -> dict[str, Any]:
    """Return what the script of a page reads of a graph.

    Args:
        traced: the graph.
        nodes: of `named_nodes`.
        layers: its layers.
        pictures: gives the pictures of a latent.

    Returns:
        `columns`, their titles from left to right; `nodes`, each column's from its top to its foot;
        `edges`, `[source, target, weight, influence]` by places in the nodes; `paths`, `[places, weight,
        influence]`; `images` and `share` of the graph; `trust`, in words.
    """
    graph = traced.graph
    order = _ordered(nodes, graph.edges)
    place = {node: i for i, node in enumerate(order)}
    found = paths(graph, top=PATHS)
    numbers = [rounded(graph.edges[name]) for name in ("weight", "influence")]
    ends = [[place[node] for node in graph.edges[name]] for name in ("source", "target")]
    return {
        "columns": [*(layer.title for layer in layers), "score"],
        "nodes": [_node(row, pictures) for row in nodes.loc[order].to_dict("records")],
        "edges": [list(edge) for edge in zip(*ends, *numbers, strict=True)],
        "paths": [
            [[place[node] for node in walked], *rounded([weight, influence])]
            for walked, weight, influence in found.itertuples(index=False)
        ],
        "images": graph.images,
        "share": traced.share,
        "trust": said_trust(traced, layers),
    }


def _ordered(nodes: pd.DataFrame, edges: pd.DataFrame) -> list[int]:
    """Return the nodes' numbers, column by column: latents in an order with few crossings, then the rest."""
    table = nodes.sort_values("influence", ascending=False, kind="stable")
    table = table.assign(kind=pd.Categorical(table["kind"], KINDS, ordered=True))
    number = pd.Series(np.arange(len(nodes)), nodes.index)
    parts = [part.index for _, part in table.groupby("layer")]
    source, target = (number[edges[name]].to_numpy() for name in ("source", "target"))
    columns = [number[part].to_numpy() for part in parts]
    crossed = barycentre_order(columns, source, target, edges["influence"].to_numpy() + 1e-12)
    found = table.loc[nodes.index[np.concatenate(crossed)]]
    return [int(i) for i in found.sort_values(["layer", "kind"], kind="stable").index]


def _node(row: dict[Any, Any], pictures: Pictures) -> dict[str, Any]:
    value, attribution, influence = rounded([row["value"], row["attribution"], row["influence"]])
    node = {"column": row["layer"], "kind": row["kind"], "value": value, "influence": influence}
    if row["kind"] != "latent":
        return node
    return {
        **node,
        "latent": row["latent"],
        "name": plain(row["label"]),
        "named": int(row["named"]),
        "unexpected": int(row["unexpected"]),
        "attribution": attribution,
        **pictures(row["layer"], row["latent"]),
    }
