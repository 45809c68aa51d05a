"""What the audit looks at: the validation images, their latents, and how these drive the predicted class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.explained import CHUNK, Explained, explain_probe
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.data import ActivationDataModule, JointDataModule
from lightning_sae.metrics import FVU, ImageLatents
from lightning_sae.progress import track
from lightning_sae.runs.folder import RunFolder
from lightning_sae.types import SparseLatents


class SplitView(NamedTuple):
    """The images of a split as the classifier and the autoencoder see them.

    Attributes:
        latents: latents of all `n` images, each with its largest activation over an image's tokens.
        predicted: `[n]` int64, the class of each by the classifier.
        embeddings: `[n, d_embed]` unit.
        attributed: `[m]` int64, ascending, the images whose score was attributed: all, or the probe images
            where the tail is no closed form.
        explained: the attributed images in that order, in parts.
        attributions: `R_j` of those `m`, summed over tokens, to the score of the predicted class.
        fvu: of the reconstruction.
    """

    latents: SparseLatents
    predicted: Tensor
    embeddings: Tensor
    attributed: Tensor
    explained: Sequence[Explained]
    attributions: SparseLatents
    fvu: float


def check_images(data: ActivationDataModule) -> None:
    """Refuse texts, which show nothing that an audit can look at.

    Raises:
        ValueError: texts, alone or beside images.
    """
    if data.clip.reads_texts or isinstance(data, JointDataModule):
        raise ValueError("texts show nothing that a class could rely on: audit a run on images alone")


def ready(run: RunFolder) -> ActivationDataModule:
    """Return the data of a run with its store opened; activations that it lacks are captured.

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
    data, sae = run.data, run.sae
    images, fvu = ImageLatents(sae.d_sae).to(data.clip.device), FVU(sae.d_in).to(data.clip.device)
    for metric in (images, fvu):  # one process looks at all images, whichever others there are
        metric.distributed_available_fn = lambda: False
    explained, embeddings = [], []
    for batch in track(data.val_dataloader(), "looking at the images", unit="batches"):
        tokens = Explained.of(data.tail, sae, batch.x[:, None], image_ids=batch.image_ids)
        images.update(tokens.latents, batch.image_ids)
        fvu.update(batch.x, tokens.x_hat[:, 0])
        assert batch.embeddings is not None
        keep = torch.cat([batch.image_ids.new_tensor([True], dtype=torch.bool), batch.image_ids.diff() > 0])
        embeddings.append(batch.embeddings[keep])
        if data.tail.needs == "nothing":  # then an image is one token
            explained.append(tokens)
    if data.tail.needs != "nothing":
        rows = torch.split(torch.arange(len(data.probe.x)), CHUNK)
        explained = [explain_probe(data, sae, some) for some in track(rows, "looking at the probe images")]
    latents, _ = images.latents()
    embedded = torch.cat(embeddings)
    predicted = classifier.predict(embedded)
    attributed = torch.cat([one.image_ids for one in explained if one.image_ids is not None])
    own = [attribute_own(one, scores, predicted[one.image_ids]) for one in explained]
    return SplitView(
        latents,
        predicted,
        embedded,
        attributed,
        explained,
        SparseLatents.stack(own),
        float(fvu.compute()),
    )
