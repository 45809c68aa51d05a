"""Statistics of the colours of images, each in the words that a name has for its two ends."""

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
"""Statistic -> what an image is called that has much of it, and one that has little."""


def colour_numbers(image: Tensor) -> Tensor:
    """Return the statistics of an image, in the order of `ENDS`.

    Brightness is the mean of all channels, contrast the standard deviation of the pixels' means, saturation
    the mean of the largest less the smallest channel, and a colour its mean less that of all channels.

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
    """Return statistics of some images, under the names of both ends; kept in the store.

    Args:
        data: of the run.
        images: of which some are asked for.
        ids: `[n]` int64.

    Returns:
        Name -> `[n]`, the larger the more it is true of an image.
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
