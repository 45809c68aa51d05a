"""Pictures as parts of a page, written into it as data URIs."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

WIDTH = 1500  # pixels; a larger picture of a run is made smaller


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as the source of an image.

    Args:
        content: bytes of the picture's file.
        kind: `png`, `jpeg` or `webp`.

    Example:
        >>> data_uri(b"abc", "webp")
        'data:image/webp;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png_uri(content: bytes) -> str:
    """Return a PNG as the source of an image.

    Example:
        >>> png_uri(b"abc")
        'data:image/png;base64,YWJj'
    """
    return data_uri(content, "png")


def webp_uri(picture: Image.Image) -> str:
    """Return a picture as WebP, which every browser of recent years reads."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=60)
    return data_uri(buffer.getvalue(), "webp")


def picture_uri(path: Path) -> str:
    """Return a picture of a run folder, encoded anew as JPEG; "" if there is none that can be read."""
    if not path.is_file():
        return ""
    try:
        with Image.open(path) as image:
            image.thumbnail((WIDTH, 10 * WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return ""
    return data_uri(buffer.getvalue(), "jpeg")
