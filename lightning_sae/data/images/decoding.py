"""Image files as upright pictures of three bytes a pixel: one way for everything that reads pictures."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError
from PIL.Image import Transpose
from PIL.PngImagePlugin import PngImageFile

Image.init()
_PICTURES = (
    "JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000", "BMP", "DIB", "PPM", "ICO", "ICNS", "PCX",
    "QOI", "SGI", "SUN", "TGA",
)  # fmt: skip
FORMATS = tuple(kind for kind in _PICTURES if kind in Image.OPEN)
"""Formats that Pillow reads here by itself: others are drawn by other programs, or are no pictures."""

PIXELS = 3
"""Version of what `decode` gives, in the identity of what it reads: raised when pixels change."""

WHITE = "white"
"""What transparent pictures lie on."""

UNREADABLE_EXIF = "with EXIF data that cannot be read, taken as upright"
TURNED = "turned upright by their EXIF orientation"
TRANSPARENT = "transparent, laid on data.background"

_NOTES = "lightning_sae"
_BITS = (8, 10, 12, 14, 16)
_WHITE_IS_ZERO = 0  # of TIFF's PhotometricInterpretation
_UNSIGNED = (1,)  # of TIFF's SampleFormat
_SHADES = {"L;2": 85, "L;4": 17}  # from one grey value of a PNG to the next, as Pillow reads it
_TO_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class BadImageError(OSError):
    """An image that cannot be decoded; the message starts with its name."""


def decode(
    content: bytes | None, name: str, at_least: tuple[int, int] | None = None, background: str = WHITE
) -> Image.Image:
    """Return an image file's bytes as an upright picture in RGB, eight bits a channel.

    The EXIF orientation is applied, also to mirrored pictures. Transparent pixels are laid on a background.
    Grey of more than eight bits and of floating point is scaled (`scale_grey`). Of several frames or pages
    the first is taken. `notes_on` tells which of these was done.

    Args:
        content: the file; `None` where a data set has no image in that row.
        name: of the image in the message, the same on every machine.
        at_least: width and height, upright, that are enough: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
            where it still has both of them, which is faster; `None` decodes all of it.
        background: a colour as `check_background` takes it.

    Raises:
        BadImageError: it cannot be decoded, whatever Pillow says of it.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("I;16", (1, 1), 65535).save(buffer, "PNG")
        >>> decode(buffer.getvalue(), "x-ray.png").getpixel((0, 0))
        (255, 255, 255)
    """
    if not content:
        raise BadImageError(f"{name}: {'empty' if content is not None else 'no image'}")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            return upright_rgb(file, at_least, background)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:  # its text has an address in memory
        raise BadImageError(f"{name}: not an image file that Pillow knows") from error
    # damaged files make Pillow's decoders raise nearly anything: OSError, SyntaxError, ValueError, TypeError,
    # IndexError, struct.error, zlib.error, and DecompressionBombError, which has no base but Exception
    except Exception as error:
        raise BadImageError(f"{name}: {error}") from error


def notes_on(example: Any) -> tuple[str, ...]:
    """Return what `decode` did to an image beyond reading its pixels; nothing for other examples."""
    notes: tuple[str, ...] = example.info.get(_NOTES, ()) if isinstance(example, Image.Image) else ()
    return notes


def describe_notes(counts: Mapping[str, int], total: int) -> str:
    """Return a line for each kind of note.

    Example:
        >>> print(describe_notes({"16-bit grey, scaled to 8 bits": 37}, 100))
        37 of 100 images were 16-bit grey, scaled to 8 bits
    """
    return "\n".join(f"{count} of {total} images were {note}" for note, count in sorted(counts.items()))


def scale_grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey values of any type in eight bits, by the range that their picture is stored in.

    Black is 0. White is 1 for floating point that never exceeds it, else `2^b - 1` for the smallest `b` of 8,
    10, 12, 14 and 16 bits that holds the largest value: scanners and cameras store 12 bits in files of 16.
    Pictures with negative or larger values, or with fractions above 1, have no such range: they go from their
    smallest to their largest.

    Raises:
        ValueError: values that are not finite.

    Example:
        >>> scale_grey(np.array([0, 2048, 4095], dtype=np.uint16))
        array([  0, 128, 255], dtype=uint8)
        >>> scale_grey(np.array([0.0, 0.5, 1.0], dtype=np.float32))
        array([  0, 128, 255], dtype=uint8)
        >>> scale_grey(np.array([-1000.0, 3000.0], dtype=np.float32))
        array([  0, 255], dtype=uint8)
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it has values that are not finite")
    is_float = values.dtype.kind == "f"
    is_whole = not is_float or bool((values == np.floor(values)).all())
    whites = [1.0] * is_float + [2.0**bits - 1 for bits in _BITS] * is_whole
    white = next((white for white in whites if low >= 0 and high <= white), None)
    black, white = (0.0, white) if white else (low, high)
    scale = 255 / (white - black) if white > black else 0.0
    return np.floor((values.astype(np.float64) - black) * scale + 0.5).astype(np.uint8)


def check_background(background: str) -> str:
    """Return a colour that Pillow knows: a name, or `#rrggbb`.

    Raises:
        ValueError: another text.
    """
    try:
        ImageColor.getrgb(background)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"data.background must be a colour, such as white, black or '#808080'; got {background!r}"
        ) from error
    return background


def image_endings() -> tuple[str, ...]:
    """Return the endings of files that Pillow reads here as pictures, sorted, in lower case."""
    kinds = {*FORMATS, "MPO"}  # which is read as a JPEG
    return tuple(sorted(end for end, kind in Image.registered_extensions().items() if kind in kinds))


def is_image(path: Path) -> bool:
    """Tell from the first bytes of a file if Pillow reads it, whatever it is called."""
    with path.open("rb") as content:
        try:
            Image.open(content, formats=FORMATS)
        except UnidentifiedImageError:
            return False
        except Exception:  # an image, and a bad one, of which Pillow says nearly anything
            return True
    return True


def upright_rgb(
    file: Image.Image, at_least: tuple[int, int] | None = None, background: str = WHITE
) -> Image.Image:
    """Return an image of Pillow as `decode` returns that of a file.

    Args:
        file: of any mode.
        at_least: see `decode`.
        background: the same.

    Example:
        >>> upright_rgb(Image.new("RGBA", (1, 1)), background="red").getpixel((0, 0))
        (255, 0, 0)
    """
    if isinstance(file, PngImageFile):
        _scale_transparent_shade(file)
        file.load()  # only then its EXIF is there
    orientation, notes = _orientation(file)
    if at_least:
        file.draft(None, at_least[::-1] if orientation > 4 else at_least)
    file.load()
    read, how = _deep_grey(file) if file.mode[0] in "IF" else (file, [])
    picture, laid = _on_background(read, background)
    if file.format != "TIFF" and orientation in _TO_UPRIGHT:  # Pillow has turned a TIFF itself
        picture = picture.transpose(_TO_UPRIGHT[orientation])
    picture.info = {_NOTES: (*notes, *how, *laid)}
    return picture


def _scale_transparent_shade(file: PngImageFile) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits to eight bits, which Pillow does not do."""
    if file.tile and (step := _SHADES.get(str(file.tile[0].args))) and "transparency" in file.info:
        file.info["transparency"] *= step


def _orientation(file: Image.Image) -> tuple[int, list[str]]:
    """Return the EXIF orientation, 1 for upright."""
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged, the decoder of EXIF raises nearly anything as well; the pixels are whole
        return 1, [UNREADABLE_EXIF]
    return (orientation, [TURNED]) if orientation in _TO_UPRIGHT else (1, [])


def _deep_grey(file: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return grey of eight bits, with an alpha channel where one of its values is transparent."""
    values, tags = np.asarray(file), getattr(file, "tag_v2", {})
    if file.mode == "I" and tags and tags.get(ExifTags.Base.SampleFormat, _UNSIGNED) == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow reads it as signed
    grey = scale_grey(values)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        grey = 255 - grey
    bits = "floating-point" if file.mode == "F" else "16-bit" if values.max() < 1 << 16 else "32-bit"
    picture = Image.fromarray(grey)
    if "transparency" in file.info:
        picture.putalpha(Image.fromarray(values != file.info["transparency"]).convert("L"))
    return picture, [f"{bits} grey, scaled to 8 bits"]


def _on_background(file: Image.Image, background: str) -> tuple[Image.Image, list[str]]:
    if not file.has_transparency_data:
        return file.convert("RGB"), []
    over = file.convert("RGBA")
    if over.getchannel("A").getextrema() == (255, 255):
        return over.convert("RGB"), []
    under = Image.new("RGBA", file.size, background)
    under.alpha_composite(over)
    return under.convert("RGB"), [TRANSPARENT]
