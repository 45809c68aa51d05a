"""The edges behind the scores of some classes: a few numbers, and the strongest paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.attribution.edges.ablation import sampled_agreement
from lightning_sae.attribution.edges.circuit import circuit_scores, random_circuit, strongest_circuit
from lightning_sae.attribution.edges.graph import Graph, paths
from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.trace import MAX_EDGES, trace_graph
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import short_names
from lightning_sae.metrics.bootstrap import Interval, interval, mean_in_units
from lightning_sae.trust.numbers import check_counts


@dataclass(frozen=True)
class EdgeOptions:
    """The bounds of what is measured of a class.

    Attributes:
        trace: share of a layer's influence whose latents are traced further, in (0, 1].
        max_traced: latents of a layer that are traced further at most.
        max_edges: of a graph between two layers.
        circuit: share of the active latents of each layer that make the circuit, in (0, 1].
        ablated: images with exact ablation.
        targets: latents of such an image at the later layer at most.
        sources: latents of such an image at the earlier layer at most, each removed once; two at least.
        paths: listed.
        batch_size: images whose graph of gradients is held at a time.
        seed: of the draws.

    Raises:
        ValueError: a number out of its range.
    """

    trace: float = 1.0
    max_traced: int = 256
    max_edges: int = MAX_EDGES
    circuit: float = 0.1
    ablated: int = 1
    targets: int = 16
    sources: int = 64
    paths: int = 5
    batch_size: int = CHUNK
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("max_traced", "max_edges", "ablated", "targets", "paths", "batch_size")
        check_counts(1, **{name: getattr(self, name) for name in counts})
        check_counts(2, sources=self.sources)
        for name in ("trace", "circuit"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")


class ClassEdges(NamedTuple):
    """The numbers and paths behind the score of a class, measured on `n` images.

    Attributes:
        target: the class.
        replacement: of its graph, in 0..1.
        completeness: of its graph, in 0..1.
        gains: `[3, n]`, the score of each image where all latents but the circuit, all but as many random
            ones, or none at all are set to their means: each minus that where all are.
        agreement: `[m]`, rank correlation of edges with exact ablation, of each ablated image and pair of
            layers; NaN where there is none.
        paths: of `path_table`.
    """

    target: int
    replacement: float
    completeness: float
    gains: Tensor
    agreement: Tensor
    paths: pd.DataFrame

    def table(self, name: str) -> pd.DataFrame:
        """Return the paths behind columns of the class, called by its name.

        The columns are `class`, `images`, `replacement`, `completeness`, `faithfulness` and those of `paths`.
        """
        images, inside, unit = self.gains.shape[1], self.gains[0], self.gains[2]
        known: dict[str, str | float] = {"class": name, "images": images, "replacement": self.replacement}
        known |= {"completeness": self.completeness, "faithfulness": float(mean_in_units(inside, unit))}
        return self.paths.assign(**known)[[*known, *self.paths]]


class Measure(NamedTuple):
    """A number and what it is the mean of.

    Attributes:
        samples: `[n]`.
        unit: `[n]`, of positive mean, see `mean_in_units`; `None`: a plain mean.
        over: what the samples are.
    """

    samples: Tensor
    unit: Tensor | None
    over: str

    @property
    def terms(self) -> Tensor:
        """`[n]`, whose mean is the number."""
        return self.samples if self.unit is None else self.samples / self.unit.mean()

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the number with its bootstrap interval."""
        return interval(self.samples, self.unit, confidence)


def measure_class(
    seen: Sequence[SeenLayer],
    target: int,
    means: Sequence[Tensor],
    scores: ClassScores,
    options: EdgeOptions,
) -> ClassEdges:
    """Return what the edges behind the score of a class are like on some of its images.

    The graph and the circuit are of the frozen rule, what agrees with ablation is the true gradient.

    Args:
        seen: the images at each layer.
        target: the class.
        means: of `latent_means`, over images of all classes.
        scores: of all classes, a linear output.
        options: how much is measured.

    Raises:
        ValueError: more edges than may be held.
    """
    classes = torch.full((len(seen[0].explained.x),), target, device=scores.weight.device)
    bounds = options.trace, options.max_traced, options.max_edges, options.batch_size
    graph = trace_graph(seen, scores, classes, "frozen", False, *bounds)
    ablated = [layer.images(0, min(options.ablated, len(classes))) for layer in seen]
    drawn = options.targets, options.sources, options.seed
    return ClassEdges(
        target,
        graph.replacement,
        graph.completeness,
        _gains(graph, seen, means, scores, classes, options),
        torch.cat([sampled_agreement(early, late, *drawn) for early, late in pairwise(ablated)]),
        path_table(graph, options.paths),
    )


def _gains(
    graph: Graph,
    seen: Sequence[SeenLayer],
    means: Sequence[Tensor],
    scores: ClassScores,
    classes: Tensor,
    options: EdgeOptions,
) -> Tensor:
    circuit = strongest_circuit(graph, seen, options.circuit)
    random = random_circuit(circuit, seen, options.seed)
    everything, nothing = ([torch.full_like(kept, all_) for kept in circuit] for all_ in (True, False))
    of = [
        circuit_scores(seen, kept, means, scores, classes, options.batch_size).cpu()
        for kept in (circuit, random, everything, nothing)
    ]
    return torch.stack(of[:3]) - of[3]


def path_table(graph: Graph, top: int = 5) -> pd.DataFrame:
    """Return the strongest paths from the earliest layer to the score, a row per latent of each.

    Args:
        graph: whole.
        top: how many paths.

    Returns:
        Columns `path` (from 1), `weight` and `influence` of the path (see `paths`), `layer` (short name of
        the hook point), `activation` (mean over the images), `leak`, the share of what arrives at the latent
        that comes from errors and other tokens, NaN at the earliest layer, and `latent`. The rows of a path
        go from the earliest layer to the latest.
    """
    latents = graph.nodes[graph.nodes["kind"] == "latent"]
    modules = [point.rpartition(":")[0] for point in latents["hook_point"].unique()]
    short = dict(zip(latents["layer"].unique(), short_names(modules), strict=True))
    found = paths(graph, top=top)
    found = found.assign(path=range(1, len(found) + 1), node=[nodes[:-1] for nodes in found["nodes"]])
    found = found.explode("node", ignore_index=True).join(latents[["layer", "latent", "value"]], on="node")
    columns = {
        "layer": found["layer"].map(short),
        "activation": found["value"],
        "leak": found["node"].map(graph.leaks),
        "latent": found["latent"],
    }
    return found[["path", "weight", "influence"]].assign(**columns)


def measures_of(classes: Sequence[ClassEdges]) -> dict[str, Measure]:
    """Return the numbers of some classes together.

    Args:
        classes: at least one.

    Returns:
        `replacement` and `completeness`, means over the classes; `faithfulness` of their circuits and
        `faithfulness_random` of random ones of the same size, `(m(C) - m(none)) / (m(all) - m(none))` with
        the mean scores over the images of all classes whose score the latents raise; `agreement`, mean over
        the ablated images and pairs of layers.
    """
    raised = [each.gains for each in classes if each.gains[2].mean() > 0]
    circuit, random, everything = torch.cat([classes[0].gains[:, :0], *raised], 1)
    scores = {
        name: Measure(torch.tensor([getattr(each, name) for each in classes]), None, "classes")
        for name in ("replacement", "completeness")
    }
    agreement = torch.cat([each.agreement for each in classes])
    return {
        **scores,
        "faithfulness": Measure(circuit, everything, "images"),
        "faithfulness_random": Measure(random, everything, "images"),
        "agreement": Measure(agreement, None, "ablated images"),
    }


def measures_table(measures: Mapping[str, Measure], confidence: float = 0.95) -> pd.DataFrame:
    """Return the numbers with their intervals, a row each.

    Args:
        measures: of `measures_of`.
        confidence: of the bootstrap intervals, in (0, 1).

    Returns:
        Columns `measure`, `mean`, `low`, `high`, `n` (samples that have a value) and `over`, what they are.
    """
    rows = []
    for name, measure in measures.items():
        numbers = map(float, measure.interval(confidence))
        rows.append((name, *numbers, int(measure.samples.isfinite().sum()), measure.over))
    return pd.DataFrame(rows, columns=["measure", "mean", "low", "high", "n", "over"])
