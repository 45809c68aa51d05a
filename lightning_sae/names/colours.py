"""Statistics of the colours of images, each with a name for a large and one for a small value."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lightning_sae.data import ActivationDataModule, cached_tensor
from lightning_sae.data.images.image_set import ImageSet, digest
from lightning_sae.progress import track
from lightning_sae.report.thumbnails import thumbnail

SIDE = 32  # pixels, to which an image is brought
ENDS = {
    "brightness": ("bright picture", "dark picture"),
    "contrast": ("picture of high contrast", "picture of low contrast"),
    "saturation": ("colourful picture", "grey picture"),
    "red": ("reddish picture", "picture without red"),
    "green": ("greenish picture", "picture without green"),
    "blue": ("bluish picture", "picture without blue"),
}
"""Statistic -> name of an image with a large value of it, and name of an image with a small value."""


def colour_numbers(image: Tensor) -> Tensor:
    """Return the statistics of an image, in the order of `ENDS`.

    Brightness is the mean of all channels, contrast the standard deviation of the pixels' means, saturation
    the mean of the largest minus the smallest channel, and a colour the mean of its channel minus the mean of
    all channels.

    Args:
        image: `[height, width, 3]` in 0..1.

    Returns:
        `[6]`.

    Example:
        >>> [round(x, 2) for x in colour_numbers(torch.tensor([[[1.0, 0.0, 0.0]]])).tolist()]
        [0.33, 0.0, 1.0, 0.67, -0.33, -0.33]
    """
    grey, channels = image.mean(2), image.mean((0, 1))
    saturation = (image.amax(2) - image.amin(2)).mean()
    colours = channels - channels.mean()
    return torch.stack([grey.mean(), grey.std(correction=0), saturation, *colours])


def colour_statistics(data: ActivationDataModule, images: ImageSet, ids: Tensor) -> dict[str, Tensor]:
    """Return statistics of some images under the names of their large and small values, kept in the store.

    Args:
        data: data of the run.
        images: all images of the split.
        ids: `[n]` int64, the images that are asked for.

    Returns:
        Name -> `[n]` numbers; the larger a number, the better the name fits the image.
    """
    key = {"images": digest(images.identity()), "ids": digest(ids.tolist()), "side": SIDE}
    numbers = cached_tensor(data.judge_folder / "colours", "colours", key, partial(_numbers, images, ids))
    both: dict[str, Tensor] = {}
    for column, (much, little) in zip(numbers.T, ENDS.values(), strict=True):
        both |= {much: column, little: -column}
    return both


def _numbers(images: ImageSet, ids: Tensor) -> Tensor:
    small = (thumbnail(images[i], SIDE) for i in track(ids.tolist(), "looking at the colours"))
    return torch.stack([colour_numbers(torch.from_numpy(np.asarray(one) / 255.0).float()) for one in small])
