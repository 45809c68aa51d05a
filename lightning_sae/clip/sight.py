"""What a CLIP sees of an image: the part that preprocessing leaves, and the places that tokens stand for."""

import math

import torch
from PIL import Image

from lightning_sae.clip.clip import Clip


def token_grid(clip: Clip, tokens: int) -> tuple[int, int] | None:
    """Return the rows and columns of the grid of places that an image's tokens stand for.

    The last tokens are the places, and a class token before them is no place. For a single token the result
    is `None`.
    """
    rows, columns = getattr(clip.visual, "grid_size", (math.isqrt(tokens),) * 2)
    return (rows, columns) if tokens > 1 and tokens - rows * columns in (0, 1) else None


def as_clip_sees(clip: Clip, image: Image.Image) -> Image.Image:
    """Return the image after CLIP's preprocessing: resized and cropped."""
    config = clip.visual.preprocess_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = (clip.preprocess(image) * std + mean).clamp(0, 1)
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
