"""The probe images of some classes, as the CLIP of a run has them at all of its hook points."""

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import CapturedLayer, Layer, SeenLayer, capture_layers
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics.accuracy import predict
from lightning_sae.sae import SparseAutoencoder


class ProbeClasses(NamedTuple):
    """Probe images that are predicted as some classes, one class behind the other.

    Attributes:
        captured: the images at each hook point of the run.
        rows: class, ascending -> which of the images are predicted as it.
    """

    captured: list[CapturedLayer]
    rows: dict[int, slice]

    @classmethod
    @torch.no_grad()
    def of(cls, data: ActivationDataModule, max_classes: int, n_images: int) -> Self:
        """Return the images of the classes that have the most.

        CLIP runs over them; what it gives at each hook point is kept in memory, on its device.

        Args:
            data: set up.
            max_classes: as of `choose_classes`.
            n_images: of each class.
        """
        chosen = choose_classes(_predicted(data), max_classes, n_images)
        ids = data.probe.image_ids[torch.cat([*chosen.values()])]
        images, clip = data.images("val"), data.clip
        inputs = torch.stack([clip.preprocess(images[i]) for i in ids.tolist()])
        stops = accumulate(len(rows) for rows in chosen.values())
        rows = {c: slice(stop - len(chosen[c]), stop) for c, stop in zip(chosen, stops, strict=True)}
        return cls(capture_layers(clip, data.hook_points, inputs, ids), rows)

    def see(self, saes: Iterable[SparseAutoencoder]) -> list[SeenLayer]:
        """Return the images as the autoencoders of all hook points see them, from the earliest."""
        pairs = zip(self.captured, saes, strict=True)
        return [captured.see(Layer(captured.hook_point, sae)) for captured, sae in pairs]


def choose_classes(predicted: Tensor, max_classes: int, n_images: int) -> dict[int, Tensor]:
    """Return some images of the classes that have the most.

    Args:
        predicted: `[n]` int64, the class of each image.
        max_classes: how many classes at most, of several with as many images the first.
        n_images: of each class, the first.

    Returns:
        Class, ascending -> its images, places in `predicted`.

    Example:
        >>> choose_classes(torch.tensor([2, 0, 2, 1, 1, 2]), max_classes=2, n_images=2)
        {1: tensor([3, 4]), 2: tensor([0, 2])}
    """
    counts = torch.bincount(predicted)
    most = counts.argsort(descending=True, stable=True)[:max_classes]
    kept = most[counts[most] > 0].sort().values.tolist()
    return {c: (predicted == c).nonzero().flatten()[:n_images] for c in kept}


def _predicted(data: ActivationDataModule) -> Tensor:
    """Return the class that each probe image is predicted as, `[p]` int64."""
    probe, found = data.probe, list[Tensor]()
    for start in range(0, len(probe.x), CHUNK):
        rows = slice(start, start + CHUNK)
        context = None if probe.context is None else probe.context[rows]
        found.append(predict(data.tail(probe.x[rows], context), data.class_embeddings))
    return torch.cat(found)
