"""The validation images of a run: the latents that fire on them and, with classes, what these drive."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.audit.evidence.evidence_pass import SplitView, ready, view_split
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.data import ActivationDataModule, JointDataModule
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.image_latents import FILE, load_image_latents
from lightning_sae.types import SparseLatents


class Classified(NamedTuple):
    """The images of a run whose data have classes, as CLIP and the autoencoder see them.

    Attributes:
        classifier: the zero-shot classifier of the run's prompts.
        scores: the margin of its classes.
        view: predictions, attributions and activations of the images.
    """

    classifier: Classifier
    scores: ClassScores
    view: SplitView


class Seen(NamedTuple):
    """The validation images of a run.

    Attributes:
        latents: a row per image, with the largest activation over the image's tokens.
        image_ids: `[n]` int64, ascending.
        targets: `[n]` int64, class of each image, -1 where unknown.
        classified: the images by class; `None` for texts, and for data with fewer than two classes.
    """

    latents: SparseLatents
    image_ids: Tensor
    targets: Tensor
    classified: Classified | None

    @classmethod
    def of(cls, run: RunFolder) -> Self:
        """Return what one pass over the store shows; without classes, what the run's own last pass wrote.

        Activations that the store lacks are captured.
        """
        data = run.data
        if has_classes(data):
            ready(run)
            classifier = prompt_classifier(run)
            scores = classifier.scores("margin")
            view = view_split(run, classifier, scores)
            ids = torch.arange(len(view.predicted))
            latents = view.latents.to("cpu")
            return cls(latents, ids, data.images("val").targets, Classified(classifier, scores, view))
        if not (run.folder / FILE).is_file():
            nothing = SparseLatents.from_dense(torch.zeros(0, run.sae.d_sae))
            return cls(nothing, torch.empty(0).long(), torch.empty(0).long(), None)
        found = load_image_latents(run.folder)
        targets = torch.as_tensor(data.images("val").targets)[found.image_ids]
        return cls(found.latents, found.image_ids, targets, None)


def has_classes(data: ActivationDataModule) -> bool:
    """Return whether the data are images of at least two classes, between which scores can be compared."""
    texts = data.clip.reads_texts or isinstance(data, JointDataModule)
    return not texts and len(data.class_names) > 1
