"""Whether to trust a graph, in plain words."""

from collections.abc import Sequence

from lightning_sae.graphs.layers import GraphLayer
from lightning_sae.graphs.traced import TracedGraph
from lightning_sae.report import percent

LEAK = {
    "error": "what the autoencoder at {} does not reconstruct",
    "outside": "other tokens than those of {}",
}
MEND = {
    "error": "an autoencoder with more latents, or a larger k, leaves less",
    "outside": "autoencoders at all tokens (tokens=all) of the earlier layers take them in",
}


def said_trust(traced: TracedGraph, layers: Sequence[GraphLayer]) -> list[str]:
    """Return sentences: how far to trust a graph, how much passes through latents, where the rest goes.

    A graph is not to be trusted by itself where less than half of the score passes through the latents.
    """
    graph = traced.graph
    if not graph.replacement >= 0:  # NaN
        return ["Nothing that was traced makes this score: the graph says nothing about it."]
    through, arriving = percent(graph.replacement), percent(graph.completeness)
    numbers = (
        f"Replacement {graph.replacement:.2f}: {through} of the influence on the score begins in latents of "
        f"{layers[0].title}. Completeness {graph.completeness:.2f}: {arriving} of what arrives at the nodes "
        "comes from latents and biases."
    )
    if graph.replacement >= 0.5:
        verdict = "Most of what makes the score passes through these latents."
    else:
        verdict = (
            "Do not trust this graph by itself: most of what makes the score passes beside the latents, and "
            "the graph does not show what that is."
        )
    return [verdict, numbers, *_largest_leak(traced, layers)]


def _largest_leak(traced: TracedGraph, layers: Sequence[GraphLayer]) -> list[str]:
    if not len(traced.leaks):
        return []
    hook_point, kind, influence = traced.leaks.iloc[0]
    titles = {str(layer.layer.hook_point): layer.title for layer in layers}
    where = LEAK[kind].format(titles[hook_point])
    return [f"The largest leak is {where}, {percent(influence)} of the influence: {MEND[kind]}."]
