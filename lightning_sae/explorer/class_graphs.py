"""The graphs of a run with several layers: they show where the scores of classes come from."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import look
from lightning_sae.attribution.edges.trace import trace_graph
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.explain.prompt_meaning import PromptMeaning
from lightning_sae.explorer.seen import Seen
from lightning_sae.graphs.drawn import drawn_graph, named_nodes
from lightning_sae.graphs.layers import GraphLayer, graph_layers
from lightning_sae.graphs.traced import TracedGraph, pruned
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder

CLASSES = 24  # that get a graph, those with the largest unexpected share first
IMAGES = 8  # of a class, of which a graph is the mean
SHARES = (0.8, 0.6, 0.4, 0.2, 0.1)  # of the influence: the largest whose graph has no more nodes than
MOST_NODES = 60
EXAMPLES = 4  # top images of a latent


class ClassGraphs(NamedTuple):
    """The graphs of classes.

    Attributes:
        layers: layers of the run.
        graphs: class -> its graph, and the nodes of the graph.
    """

    layers: list[GraphLayer]
    graphs: dict[int, tuple[TracedGraph, pd.DataFrame]]

    def image_ids(self) -> Iterable[int]:
        """Return the ids of the images that show what the latents stand for."""
        for _, nodes in self.graphs.values():
            latents = nodes[nodes["kind"] == "latent"]
            for place, j in zip(latents["layer"], latents["latent"], strict=True):
                yield from self._tops(place, j)

    def _tops(self, place: int, latent: int) -> list[int]:
        return self.layers[place].top_images(latent)[:EXAMPLES]

    def drawn(self, places: Mapping[int, int]) -> dict[int, dict[str, Any]]:
        """Return what the script reads of each class; `places` are the places of the images on the sheets."""

        def pictures(place: int, latent: int) -> dict[str, Any]:
            return {"tops": [places[i] for i in self._tops(place, latent) if i in places]}

        return {
            c: drawn_graph(traced, nodes, self.layers, pictures) for c, (traced, nodes) in self.graphs.items()
        }


def class_graphs(run: RunFolder, seen: Seen) -> ClassGraphs:
    """Trace the logits of classes back through the layers of a run, as means over images predicted as each.

    Args:
        run: an opened run; one with a single layer gets no graphs.
        seen: its validation images; without classes there are no graphs.
    """
    if seen.classified is None or len(run.data.modules) < 2:
        return ClassGraphs([], {})
    layers, meaning = graph_layers([run]), PromptMeaning(run)
    scores = ClassScores(run.data.class_embeddings, "logit", run.data.clip.logit_scale)
    culprits = _culprits(run)
    found = {}
    for c, ids in track(_images(run, seen, culprits), "tracing classes", unit="classes"):
        traced = _trace(run, layers, scores, c, ids)
        foreign = partial(_foreign, run, layers, meaning, culprits, c)
        found[c] = (traced, named_nodes(traced, layers, foreign))
    return ClassGraphs(layers, found)


def _culprits(run: RunFolder) -> dict[str, set[int]]:
    """Return each class's unexpected latents by `reliance.csv`, the class with the largest share first."""
    table = run.table("reliance")
    if not len(table):
        return {}
    return {str(name): {*rows["latent"].astype(int)} for name, rows in table.groupby("class", sort=False)}


def _images(run: RunFolder, seen: Seen, culprits: Mapping[str, set[int]]) -> list[tuple[int, list[int]]]:
    """Return the classes that get a graph, each with images that are predicted as this class."""
    assert seen.classified is not None
    view, names = seen.classified.view, run.data.class_names
    ids = view.attributed.cpu()
    predicted = view.predicted.cpu()[ids]
    first = [names.index(name) for name in culprits if name in names]
    order = dict.fromkeys([*first, *range(len(names))])
    images = {c: ids[predicted == c][:IMAGES].tolist() for c in order}
    return [(c, own) for c, own in images.items() if own][:CLASSES]


def _trace(
    run: RunFolder, layers: list[GraphLayer], scores: ClassScores, c: int, ids: list[int]
) -> TracedGraph:
    clip, images = run.data.clip, run.data.images("val")
    pixels = torch.stack([clip.preprocess(images[i]) for i in ids]).to(clip.device)
    at_layers = look(clip, [layer.layer for layer in layers], pixels)
    classes: Tensor = torch.full((len(ids),), c, device=clip.device)
    whole = trace_graph(at_layers, scores, classes)
    small = (share for share in SHARES if len(whole.prune(share).nodes) <= MOST_NODES)
    return pruned(whole, next(small, SHARES[-1]), at_layers, scores, classes)


def _foreign(
    run: RunFolder,
    layers: list[GraphLayer],
    meaning: PromptMeaning,
    culprits: Mapping[str, set[int]],
    c: int,
    place: int,
    latents: list[int],
) -> list[bool]:
    """Return whether each latent does not mean a class.

    In the last layer the run's own finding decides, in earlier layers the first prompt of the class.
    """
    if place == len(layers) - 1:
        return [j in culprits.get(run.data.class_names[c], ()) for j in latents]
    below = meaning.judge([layers[place].top_images(j) for j in latents], run.data.prompts[c][0])[1]
    return [bool(each) for each in below]
