"""A small picture of an example: an image made smaller, or a text written into the cell."""

import textwrap

from PIL import Image, ImageDraw, ImageFont, ImageOps

from lightning_sae.report.palette import INK, PAPER

LETTER = 9  # pixels, the height of the letters of a text


def thumbnail(example: Image.Image | str, side: int) -> Image.Image:
    """Return a square picture of an example; a text that is too long ends in an ellipsis.

    Args:
        example: an RGB image, cropped to its middle, or a text.
        side: pixels.

    Example:
        >>> thumbnail("a photo of a dog", side=64).size
        (64, 64)
    """
    if not isinstance(example, str):
        return ImageOps.fit(example, (side, side), Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (side, side), PAPER)
    columns, lines = max(1, 2 * (side - 6) // LETTER), max(1, (side - 4) // (LETTER + 1))
    wrapped = textwrap.wrap(example, columns, max_lines=lines, placeholder="…")
    ImageDraw.Draw(cell).multiline_text(
        (3, 2), "\n".join(wrapped), INK, ImageFont.load_default(LETTER), spacing=1
    )
    return cell
