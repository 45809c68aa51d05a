"""One HTML page that holds everything: no script, no link, nothing that is fetched."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, UnidentifiedImageError

WIDTH = 1500  # pixels; a larger picture of a run is made smaller


def render(context: dict[str, Any]) -> str:
    """The page. Every text is escaped, and the page's own policy forbids scripts and requests.

    Args:
        context: what the template `page.html.jinja` names.
    """
    environment = Environment(
        loader=PackageLoader("lightning_sae.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(context)


def png_uri(content: bytes) -> str:
    """A PNG as the source of an image.

    Example:
        >>> png_uri(b"abc")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def picture_uri(path: Path) -> str:
    """A picture of a run folder, drawn anew as JPEG; "" where there is none that can be read."""
    try:
        with Image.open(path) as image:
            image.thumbnail((WIDTH, 10 * WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
