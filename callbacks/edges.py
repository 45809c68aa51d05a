"""From layer to layer: which latents of earlier hook points make those of the last one, and the scores."""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import isnan

import pandas as pd

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.edges.by_class import (
    ClassEdges,
    EdgeOptions,
    Measure,
    measure_class,
    measures_of,
    measures_table,
)
from lightning_sae.attribution.edges.circuit import latent_means
from lightning_sae.attribution.edges.layers import capture_layers
from lightning_sae.attribution.edges.linearised import check_held
from lightning_sae.attribution.edges.probe_classes import ProbeClasses
from lightning_sae.attribution.edges.trace import MAX_EDGES
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.baselines.terms import Terms
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import dry_inputs, short_names
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.labelling import guess_names
from lightning_sae.concepts.naming import LatentName, name_columns
from lightning_sae.data import ActivationDataModule
from lightning_sae.tracking.publish import publish_table
from lightning_sae.trust.numbers import check_counts


class LayerEdges(PassCallback):
    """Traces the scores of classes back through the hook points of a run, and measures how true that is.

    The images of a class are probe images predicted as it. CLIP runs over them once, at all hook points.
    Labels of earlier hook points are guesses: only the run's own are tested.

    Logged:
        edges/replacement: share of the influence that comes from latents of the earliest layer, mean over the
            classes, in [0, 1].
        edges/completeness: share of what arrives at nodes that comes neither from errors nor from other
            tokens, mean over the classes, in [0, 1].
        edges/faithfulness: score with the latents of largest influence, while all others are set to their
            means: 1 for the score as it is, 0 for that of no latents at all; over the classes whose score
            the latents raise, and not logged where there are none.
        edges/faithfulness_random: the same for equally many latents drawn at random.
        edges/agreement: rank correlation of true edges with exact ablation over the sources of a target, mean
            over targets, images and pairs of layers, in [-1, 1].

    Writes `edges.csv`, the strongest paths of each class, and `edge_measures.csv`, the numbers with bootstrap
    intervals over classes or images.

    Args:
        every: measure after every so many validation passes, and at the last step of a fit; 0: only there.
        max_classes: largest number of classes, those that most probe images are predicted as.
        n_images: largest number of images per class; all are kept in memory with their activations.
        trace: share of a layer's influence whose latents are traced further, in (0, 1].
        max_traced: largest number of latents of a layer that are traced further; each takes a backward pass.
        max_edges: largest number of edges of a class between two layers.
        circuit: share of the active latents of each layer that faithfulness is measured of, in (0, 1].
        ablated: images of a class with exact ablation.
        targets: largest number of latents of such an image at the later layer.
        sources: largest number of latents of such an image at the earlier layer, each removed once.
        paths: paths of a class in `edges.csv`.
        confidence: of the intervals, in (0, 1).
        batch_size: images whose graph of gradients is held at a time.
        seed: of random circuits, and of the targets and sources with exact ablation.

    Raises:
        ValueError: a number out of its range; in `check`, a run with one hook point, or a model that cannot
            be held as a linear map.
    """

    uses = (ConceptLabels,)
    logs = (
        *("edges/replacement", "edges/completeness", "edges/agreement"),
        *("edges/faithfulness", "edges/faithfulness_random"),
    )

    def __init__(
        self,
        every: int = 4,
        max_classes: int = 32,
        n_images: int = 8,
        trace: float = 1.0,
        max_traced: int = 256,
        max_edges: int = MAX_EDGES,
        circuit: float = 0.1,
        ablated: int = 1,
        targets: int = 16,
        sources: int = 64,
        paths: int = 5,
        confidence: float = 0.95,
        batch_size: int = CHUNK,
        seed: int = 0,
    ) -> None:
        check_counts(0, every=every)
        check_counts(1, max_classes=max_classes, n_images=n_images)
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {confidence}")
        self.every, self.max_classes, self.n_images = every, max_classes, n_images
        bounds = trace, max_traced, max_edges, circuit, ablated, targets, sources
        self.options = EdgeOptions(*bounds, paths, batch_size, seed)
        self.confidence = confidence
        self.classes: list[ClassEdges] = []
        self.measures: dict[str, Measure] = {}
        self._images: ProbeClasses | None = None
        self._names: dict[str, list[LatentName]] = {}

    def check(self, data: ActivationDataModule) -> None:
        """Refuse a run with one hook point, and a CLIP that has no frozen rule, before hours of training."""
        if not data.earlier:
            raise ValueError(
                "callbacks.edges looks from layer to layer, and this run has one hook point: name several, "
                "hook_points=[FIRST,LAST], or leave the callback out with ~callbacks.edges"
            )
        check_held(capture_layers(data.clip, data.hook_points, dry_inputs(data.clip, data.hook.is_text)))

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the logged numbers: one per class, per image, or per ablated image."""
        return {f"edges/{name}": Terms(measure.terms) for name, measure in self.measures.items()}

    def finish(self, pass_: Pass) -> None:
        """Measure each class, on one of the processes, and log."""
        data, trainer = pass_.data, pass_.trainer
        if self._images is None:
            self._images = ProbeClasses.of(data, self.max_classes, self.n_images)
        seen = self._images.see(layer.sae for layer in pass_.module.layers)
        means, scores = latent_means(seen), ClassScores(data.class_embeddings, "logit", data.clip.logit_scale)
        mine = [
            measure_class(
                [layer.images(rows.start, rows.stop) for layer in seen], c, means, scores, self.options
            )
            for c, rows in [*self._images.rows.items()][trainer.global_rank :: trainer.world_size]
        ]
        parts = [trainer.strategy.broadcast(mine, src=rank) for rank in range(trainer.world_size)]
        self.classes = sorted(chain(*parts), key=lambda each: each.target)
        self.measures = measures_of(self.classes)
        self._names = _names(pass_)
        self.log_terms(pass_)

    def log_terms(self, pass_: Pass) -> None:
        """Log the numbers that there are."""
        numbers = {key: term.number for key, term in self.terms().items()}
        pass_.module.log_dict({key: number for key, number in numbers.items() if not isnan(number)})

    def report(self, pass_: Pass) -> None:
        """Write the tables."""
        if pass_.trainer.is_global_zero:
            publish_table(pass_.trainer, "edges", self._table(pass_.data.class_names))
            publish_table(pass_.trainer, "edge_measures", measures_table(self.measures, self.confidence))

    def _table(self, class_names: Sequence[str]) -> pd.DataFrame:
        """Return the paths of all classes, with what their latents are called."""
        table = pd.concat([each.table(class_names[each.target]) for each in self.classes], ignore_index=True)
        if not self._names:
            return table
        places = zip(table["layer"], table["latent"], strict=True)
        names = [self._names[layer][latent] for layer, latent in places]
        return table.assign(**name_columns(names))


def _names(pass_: Pass) -> dict[str, list[LatentName]]:
    """Return what the latents of each layer are called; none without labels. On all ranks or on none."""
    concepts, judge = pass_.get(ConceptLabels), pass_.data.judge_embeddings
    if concepts is None:
        return {}
    *earlier, _ = pass_.module.layers
    *_, own = short_names(pass_.data.modules)
    found = {layer.name: layer.metrics.top_images.compute()[1] for layer in earlier}
    words = concepts.vocabulary
    guessed = {
        name: guess_names(ids, words, judge) if words else [LatentName("", False)] * len(ids)
        for name, ids in found.items()
    }
    return guessed | {own: concepts.names}
