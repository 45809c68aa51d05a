"""The graphs of one image and some prompts: the latents of several layers through which scores arise."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from PIL import Image

from lightning_sae.attribution.edges.layers import SeenLayer, look
from lightning_sae.classifiers.outputs import Output
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.explain.explanation import check_request
from lightning_sae.explain.prompt_meaning import PromptMeaning
from lightning_sae.graphs.drawn import named_nodes
from lightning_sae.graphs.layers import GraphLayer, graph_layers
from lightning_sae.graphs.traced import DEFAULT, GraphSettings, TracedGraph, trace_drawn
from lightning_sae.runs.folder import RunFolder


class PromptGraph(NamedTuple):
    """The graph of an image and a prompt.

    Attributes:
        prompt: the text.
        score: score of the image and the prompt.
        traced: the pruned graph.
        nodes: its nodes, with `label`, `named` and `unexpected`.
    """

    prompt: str
    score: float
    traced: TracedGraph
    nodes: pd.DataFrame


class ImageGraphs(NamedTuple):
    """The graphs of an image, one per prompt.

    Attributes:
        layers: the layers, the earliest first.
        seen: the image at each layer.
        graphs: a graph for each prompt.
    """

    layers: list[GraphLayer]
    seen: list[SeenLayer]
    graphs: list[PromptGraph]


def image_graphs(
    runs: Sequence[RunFolder],
    image: Image.Image,
    prompts: Sequence[str],
    output: Output | str = "logit",
    settings: GraphSettings = DEFAULT,
) -> ImageGraphs:
    """Trace the score of an image and each prompt back through the layers of some runs.

    Args:
        runs: finished runs of one CLIP, the earliest hook point first; or one run with several hook points.
        image: the image, in RGB.
        prompts: texts as they are, no template is put around them.
        output: the score; `margin` and `probability` compare the prompts, and want the rule `gradient`.
        settings: settings of the graphs.

    Raises:
        ValueError: as `explain`, `graph_layers`, `check_layers` and `trace_drawn`.
        FileNotFoundError: the store of a run has moved.
    """
    check_request(prompts, top=1)
    layers = graph_layers(runs)
    clip = runs[0].data.clip
    pixels = clip.preprocess(image)[None].to(clip.device)
    seen = look(clip, [layer.layer for layer in layers], pixels)
    scores = ClassScores(clip.encode_text(prompts), output, clip.logit_scale)
    meanings = {str(run.folder): PromptMeaning(run) for run in runs}

    def foreign(prompt: str, place: int, latents: list[int]) -> list[bool]:
        layer = layers[place]
        meaning = meanings[str(layer.run.folder)]
        below = meaning.judge([layer.top_images(j) for j in latents], prompt)[1]
        return [bool(each) for each in below]

    graphs = []
    for c, prompt in enumerate(prompts):
        traced = trace_drawn(seen, scores, torch.tensor([c], device=pixels.device), settings)
        nodes = named_nodes(traced, layers, partial(foreign, prompt))
        score = float(nodes.loc[nodes["kind"] == "score", "value"].iloc[0])
        graphs.append(PromptGraph(prompt, score, traced, nodes))
    return ImageGraphs(layers, seen, graphs)
