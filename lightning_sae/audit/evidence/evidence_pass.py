"""What the audit looks at: the validation images, their latents, and how these drive the predicted class."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained, explain_probe
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.data import ActivationDataModule, JointDataModule
from lightning_sae.metrics import FVU, ImageLatents
from lightning_sae.runs.folder import RunFolder
from lightning_sae.types import SparseLatents

CHUNK = 64  # probe images at a time


class SplitView(NamedTuple):
    """The images of a split as the classifier and the autoencoder see them.

    Attributes:
        latents: of all `n` images, of an image's tokens the largest activation.
        predicted: `[n]` int64, the class of each by the classifier.
        embeddings: `[n, d_embed]` unit.
        attributed: `[m]` int64, ascending, the images whose score was attributed: all, or the probe images
            where the tail is no closed form.
        attributions: `R_j` of those `m`, summed over tokens, to the score of the predicted class.
        fvu: of the reconstruction.
    """

    latents: SparseLatents
    predicted: Tensor
    embeddings: Tensor
    attributed: Tensor
    attributions: SparseLatents
    fvu: float


def check_images(data: ActivationDataModule) -> None:
    """Refuse data that nobody can look at.

    Raises:
        ValueError: texts, alone or beside images.
    """
    if data.clip.reads_texts or isinstance(data, JointDataModule):
        raise ValueError("texts show nothing that a class could rely on: audit a run on images alone")


def ready(run: RunFolder) -> ActivationDataModule:
    """Return the data of a run with its store opened; what it lacks is captured.

    Raises:
        ValueError: as `check_images`.
    """
    check_images(run.data)
    run.data.prepare_data()
    run.data.setup("validate")
    run.sae.to(run.data.class_embeddings.device)
    return run.data


@torch.no_grad()
def view_split(run: RunFolder, classifier: Classifier, scores: ClassScores) -> SplitView:
    """Return what one pass over the validation images shows.

    Args:
        run: `ready`.
        classifier: under audit.
        scores: of its classes.
    """
    device = run.data.clip.device
    images, fvu = ImageLatents(run.sae.d_sae).to(device), FVU(run.sae.d_in).to(device)
    embeddings = []
    for batch in run.data.val_dataloader():
        x_hat, latents = run.sae(batch.x)
        images.update(latents, batch.image_ids)
        fvu.update(batch.x, x_hat)
        assert batch.embeddings is not None
        keep = torch.cat([batch.image_ids.new_tensor([True], dtype=torch.bool), batch.image_ids.diff() > 0])
        embeddings.append(batch.embeddings[keep])
    latents, _ = images.latents()
    embedded = torch.cat(embeddings)
    predicted = classifier.predict(embedded)
    attributed, attributions = [], []
    for explained in explained_images(run):
        assert explained.image_ids is not None
        attributed.append(explained.image_ids)
        attributions.append(attribute_own(explained, scores, predicted[explained.image_ids]))
    own = SparseLatents.stack(attributions)
    return SplitView(latents, predicted, embedded, torch.cat(attributed), own, float(fvu.compute()))


@torch.no_grad()
def explained_images(run: RunFolder) -> Iterator[Explained]:
    """Yield the explanations of the images that the tail is run on.

    All validation images are taken where the tail is a closed form, else the probe images.
    """
    data = run.data
    if data.tail.needs == "nothing":
        for batch in data.val_dataloader():
            yield Explained.of(data.tail, run.sae, batch.x[:, None], image_ids=batch.image_ids)
        return
    for rows in torch.split(torch.arange(len(data.probe.x)), CHUNK):
        yield explain_probe(data, run.sae, rows)
