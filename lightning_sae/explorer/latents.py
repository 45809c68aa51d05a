"""The facts of each latent beside its row in the table: histogram, classes, nearest latents."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.types import SparseLatents

BINS = 24  # of a histogram
NEAREST = 6
CLASSES = 6  # in which a latent fires most often
CHUNK = 1024  # decoder rows compared at a time


class Activity(NamedTuple):
    """The firing of latents over images, a row per latent that is asked for.

    Attributes:
        fired: `[m]` int32, number of images on which the latent is active.
        largest: `[m]` float32, its largest activation.
        histogram: `[m, BINS]` uint8, active images by activation, in bins from 0 to `largest`: the square
            root of a bin's count over that of the fullest bin, scaled to 0..255.
        classes: `[m, CLASSES]` int32, classes in which it fires most often, the most frequent first; -1 for
            none.
        class_images: `[m, CLASSES]` int32, number of images of that class on which it is active.
    """

    fired: NDArray[np.int32]
    largest: NDArray[np.float32]
    histogram: NDArray[np.uint8]
    classes: NDArray[np.int32]
    class_images: NDArray[np.int32]


def activity(latents: SparseLatents, targets: Tensor, wanted: Tensor, n_classes: int) -> Activity:
    """Return how latents fire.

    Args:
        latents: a row per image.
        targets: `[n]` int64, class of each image, -1 where unknown.
        wanted: `[m]` int64, the latents.
        n_classes: `C`.

    Example:
        >>> z = SparseLatents.from_dense(torch.tensor([[0.0, 2.0], [1.0, 4.0]]))
        >>> found = activity(z, torch.tensor([0, 1]), torch.tensor([1]), n_classes=2)
        >>> found.fired.tolist(), found.largest.tolist(), found.classes[0, :2].tolist()
        ([2], [4.0], [0, 1])
    """
    mine = latents.columns(wanted)
    active = mine.values > 0
    values, latent, image = mine.values[active], mine.indices[active], mine.rows()[active]
    m = len(wanted)
    largest = values.new_zeros(m).scatter_reduce(0, latent, values, "amax")
    bins = (values / largest[latent] * BINS).long().clamp(max=BINS - 1)
    histogram = torch.bincount(latent * BINS + bins, minlength=m * BINS).view(m, BINS)
    classes, counts = _frequent_classes(latent, targets[image], m, n_classes)
    heights = 255 * (histogram / histogram.amax(1, keepdim=True).clamp(min=1)).sqrt()
    return Activity(
        _whole(histogram.sum(1)),
        largest.float().numpy(),
        heights.round().byte().numpy(),
        _whole(classes),
        _whole(counts),
    )


def _frequent_classes(latent: Tensor, targets: Tensor, m: int, n_classes: int) -> tuple[Tensor, Tensor]:
    """Return the classes with the most active images of each latent, and how many: `[m, CLASSES]` each."""
    classes, counts = torch.full((m, CLASSES), -1), torch.zeros(m, CLASSES, dtype=torch.int64)
    known = targets >= 0
    keys, times = torch.unique(latent[known] * max(1, n_classes) + targets[known], return_counts=True)
    owner, found = keys // max(1, n_classes), keys % max(1, n_classes)
    order = (owner * (int(times.max()) + 1 if len(times) else 1) - times).argsort(stable=True)
    owner, found, times = owner[order], found[order], times[order]
    first = torch.searchsorted(owner, torch.arange(m))
    place = torch.arange(len(owner)) - first[owner]
    shown = place < CLASSES
    classes[owner[shown], place[shown]] = found[shown]
    counts[owner[shown], place[shown]] = times[shown]
    return classes, counts


@torch.no_grad()
def nearest(W_dec: Tensor, wanted: Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return for each latent the latents whose decoder rows have the largest cosine with its own.

    Args:
        W_dec: `[d_sae, d_in]`.
        wanted: `[m]` int64, the latents; others are not looked at.

    Returns:
        Places in `wanted`, and cosines, the nearest first: `[m, min(NEAREST, m - 1)]` each.

    Example:
        >>> rows = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> places, cosines = nearest(rows, torch.tensor([0, 1]))
        >>> places.tolist(), cosines.tolist()[0][0] == torch.tensor(0.6)
        ([[1], [0]], tensor(True))
    """
    rows = normalize(W_dec[wanted.to(W_dec.device)].float(), dim=1)
    n = min(NEAREST, max(0, len(rows) - 1))
    places, cosines = [], []
    for start in range(0, len(rows), CHUNK):
        cosine = rows[start : start + CHUNK] @ rows.T
        own = torch.arange(len(cosine), device=rows.device)
        cosine[own, start + own] = -2.0
        top = cosine.topk(n, dim=1)
        places.append(top.indices)
        cosines.append(top.values)
    if not places:
        return np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
    return _whole(torch.cat(places)), torch.cat(cosines).cpu().numpy()


def _whole(numbers: Tensor) -> NDArray[Any]:
    return numbers.cpu().numpy().astype(np.int32)
