"""Pictures with colours at the places that raise or lower a score, and the scale of the colours."""

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.report.palette import LOWERS, RAISES


def overlay(picture: Image.Image, values: Tensor, side: int) -> Image.Image:
    """Return a square picture in light grey under the colours of its places, faint for small values.

    Args:
        picture: square.
        values: `[rows, columns]` in -1..1.
        side: pixels of the result.

    Example:
        >>> overlay(Image.new("RGB", (8, 8)), torch.tensor([[1.0, 0.0]]), 2).getpixel((0, 0))
        (217, 130, 43)
    """
    under = picture.convert("L").resize((side, side), Image.Resampling.LANCZOS)
    return _painted(under.point(lambda grey: (grey + 128) * 2 // 3), values)


def colour_scale(width: int, height: int) -> Image.Image:
    """Return the colours of the values from -1 on the left to 1 on the right."""
    return _painted(Image.new("L", (width, height), 255), torch.linspace(-1, 1, width)[None])


def _painted(grey: Image.Image, values: Tensor) -> Image.Image:
    """Return a grey picture under the colours of values in -1..1."""
    strength = (values.abs().sqrt() * 255).round().byte()
    over = grey.convert("RGB")
    for colour, part in ((RAISES, values > 0), (LOWERS, values < 0)):
        mask = Image.fromarray((strength * part).numpy()).resize(grey.size, Image.Resampling.NEAREST)
        over.paste(colour, (0, 0, *grey.size), mask)
    return over
