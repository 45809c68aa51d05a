"""CLIP's preprocessing in two parts: on pictures where they are decoded, on bytes where the model is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Normalize, ToTensor

Prepare = Callable[[Any], Tensor]
"""An example -> a tensor, of all the same shape and type."""

Finish = Callable[[Tensor], Tensor]
"""A batch of these -> what the model takes, on the same device."""


class Pictures:
    """The part on pictures: resized, cropped, and as bytes.

    Args:
        steps: transforms, picture -> picture in RGB.
    """

    def __init__(self, steps: list[Any]) -> None:
        self.steps = Compose(steps)

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the bytes `[H, W, 3]` of a picture."""
        return torch.from_numpy(np.array(self.steps(image)))


class Scaling:
    """The part on bytes: `ToTensor` and `Normalize` for a batch on any device, with their bits in float32.

    Args:
        mean: of each channel, of values in [0, 1].
        std: of each channel, the same.

    Example:
        >>> black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 4, 3)
        >>> Scaling([0.5] * 3, [0.25] * 3)(black_and_white)[:, 0, 0, 0]
        tensor([-2.,  2.])
    """

    def __init__(self, mean: list[float], std: list[float]) -> None:
        # 255 as a tensor: by a plain number PyTorch does not divide on a GPU, it multiplies by the reciprocal
        constants = [torch.tensor(255.0), *(torch.tensor(each).view(-1, 1, 1) for each in (mean, std))]
        self._constants = {torch.device("cpu"): constants}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the scaled pixels `[n, 3, H, W]` float32 of bytes `[n, H, W, 3]`."""
        if pixels.device not in self._constants:
            self._constants[pixels.device] = [each.to(pixels.device) for each in self._on_cpu]
        full, mean, std = self._constants[pixels.device]
        channels = pixels.permute(0, 3, 1, 2)
        values = channels.to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(full).sub_(mean).div_(std)

    @property
    def _on_cpu(self) -> list[Tensor]:
        return self._constants[torch.device("cpu")]


def in_two_parts(preprocess: Prepare) -> tuple[Prepare, Finish]:
    """Split a preprocessing into what is done to each example, and what can be done to a batch of them.

    The transforms of open_clip and torchvision that end in `ToTensor` and `Normalize` are split before these:
    a picture travels as bytes, a quarter of the float32. Any other preprocessing is done to each example.

    Returns:
        `(prepare, finish)`: `finish` of stacked `prepare(example)` has the bits of stacked
        `preprocess(example)`.
    """
    match preprocess:
        case Compose(transforms=[*steps, ToTensor(), Normalize() as last]) if _in_rgb(steps):
            return Pictures(steps), Scaling(last.mean, last.std)
    return preprocess, unchanged


def unchanged(inputs: Tensor) -> Tensor:
    """Return the same: these inputs are already what the model takes."""
    return inputs


def _in_rgb(steps: list[Any]) -> bool:
    picture = Compose(steps)(Image.new("RGB", (8, 8)))
    return isinstance(picture, Image.Image) and picture.mode == "RGB"
