"""The image that is explained, read from its file."""

from pathlib import Path

from PIL import Image

from lightning_sae.data import decode
from lightning_sae.data.images.bad_images import read_file
from lightning_sae.data.images.decoding import WHITE
from lightning_sae.files import user_path


def read_image(path: str | Path, background: str = WHITE) -> Image.Image:
    """Return an image file in RGB, decoded as the data of a run are (`decode`).

    Raises:
        FileNotFoundError: there is no such file.
        BadImageError: it is no image, damaged, too large to be meant, or no regular file.
    """
    path = user_path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no image {path}")
    return decode(read_file(path, str(path)), str(path), background=background)
