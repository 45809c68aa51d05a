"""What the correction of a planted class does on test pictures, by what was planted."""

from typing import NamedTuple

import torch
from audit import Truth
from pictured import Plant
from torch import Tensor

from lightning_sae.audit.findings import Finding
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.correct import correct
from lightning_sae.correct.measures import all_images
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.group_errors import factor_groups, group_errors, one_against_rest
from lightning_sae.runs.folder import RunFolder


class CorrectionRow(NamedTuple):
    """The effect of a correction on test.

    Attributes:
        class_name: that is corrected.
        factor: the cue.
        way: that was chosen; `none` where nothing was.
        worst: balanced error of the class in the worse group, with the cue and without.
        worst_after: the same, corrected.
        loss: of accuracy of the class that loses most.
        why: nothing was chosen.
    """

    class_name: str
    factor: str
    way: str
    worst: float
    worst_after: float
    loss: float
    why: str


def correction_row(
    run: RunFolder, classifier: Classifier, finding: Finding, plant: Plant, truth: Truth
) -> CorrectionRow:
    """Correct a class by the library's own rule on val, which is not told what was planted."""
    before = classifier.predict(test_embeddings(truth))
    error = worst(before, plant, truth)
    try:
        corrected, record = correct(run, classifier, finding)
    except ValueError as refusal:  # nothing that is tried is worth it
        return CorrectionRow(finding.class_name, plant.value, "none", error, error, 0.0, str(refusal))
    images = [truth.images[i] for i in range(len(truth.images))]
    after = corrected.classify(run.data.clip, images).argmax(1)
    loss = float((recalls(before, truth) - recalls(after, truth)).max())
    mended = worst(after, plant, truth)
    return CorrectionRow(finding.class_name, plant.value, record.way, error, mended, loss, "")


def test_embeddings(truth: Truth) -> Tensor:
    """Return `[n, d_embed]` unit, of the test pictures."""
    return read_tensor(truth.run.data.capture("test") / "images", "embeddings").float()


def worst(predicted: Tensor, plant: Plant, truth: Truth) -> float:
    """Return the class's balanced error in the worse group of test pictures: with the cue, or without."""
    groups = factor_groups(plant.factor, *truth.images.factors[plant.factor])
    target = list(truth.images.class_names).index(plant.class_name)
    two = one_against_rest(groups, plant.value)
    return float(group_errors(predicted, truth.images.targets, target, two).worst)


def recalls(predicted: Tensor, truth: Truth) -> Tensor:
    """Return `[C]`, the share of each class's test pictures that are predicted as it."""
    everything, targets = all_images(len(predicted)), truth.images.targets
    classes = range(len(truth.images.class_names))
    missed = [group_errors(predicted, targets, c, everything).miss[0] for c in classes]
    return 1 - torch.stack(missed)
