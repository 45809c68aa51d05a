"""Words printed on images with Pillow, and strings that mean nothing."""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from lightning_sae.data.images.image_set import listed
from lightning_sae.report.fonts import font_with

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif")  # of matplotlib
HEIGHTS = (0.15, 0.25, 0.35)  # of a label, shares of the picture's
PLACES = (0.0, 0.5, 1.0)  # of a label, from the upper to the lower edge
WIDEST = 0.95  # of a label, share of the picture's width
RENDERED = 160  # pixels, size of the font that a label is made smaller from


class Style(NamedTuple):
    """A way to draw a word.

    Attributes:
        font: file of matplotlib; a word with letters that it lacks is drawn in a font of the system.
        height: of the label, a share of the picture's.
        place: of the label, 0 at the upper edge to 1 at the lower one.
    """

    font: str
    height: float
    place: float


class Label(NamedTuple):
    """A text to print, and how it is printed.

    Attributes:
        word: on the label.
        style: font, size and place.
    """

    word: str
    style: Style


STYLES = tuple(Style(*parts) for parts in product(FONTS, HEIGHTS, PLACES))


@lru_cache(maxsize=64)
def _label(word: str, font: str) -> Image.Image:
    """Return the word in black on white, as high as the line; boxes for letters that no font has."""
    letters = ImageFont.truetype(font_with(word, _file(font)) or _file(font), RENDERED)
    left, _, right, _ = letters.getbbox(word or "word")
    margin, height = RENDERED // 8, sum(letters.getmetrics())
    label = Image.new("L", (int(right - left) + 2 * margin, height), 255)
    ImageDraw.Draw(label).text((margin - left, 0), word, font=letters, fill=0)
    return label


def _file(font: str) -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf")


def check_letters(words: Sequence[str]) -> None:
    """Warn of words that no font here has the letters of: on a label they are boxes."""
    if lacking := [word for word in words if font_with(word, _file(FONTS[0])) is None]:
        warnings.warn(
            f"{len(lacking)} words are printed as boxes, and whether CLIP reads them is not known: no font "
            f"of this system has all their letters:{listed([repr(word) for word in lacking])}\n"
            "Install one that has, such as Debian's fonts-noto-cjk",
            stacklevel=3,
        )


def put_label(picture: Image.Image, word: str, style: Style, written: bool = True) -> Image.Image:
    """Return the picture with a word in black on a white label, as on a sticker.

    Args:
        picture: in RGB, of any size.
        word: what is written; "" leaves the label empty.
        style: font, size and place. A word that is too wide for the picture is squeezed.
        written: whether the word stands on the label; else the label is as wide, and empty.

    Returns:
        A copy.

    Example:
        >>> labelled = put_label(Image.new("RGB", (40, 30)), "plane", Style("DejaVuSans", 0.3, 1.0))
        >>> labelled.getpixel((20, 20)), labelled.getpixel((20, 21))  # above the label, and its margin
        ((0, 0, 0), (255, 255, 255))
    """
    label, height = _label(word, style.font), max(1, round(style.height * picture.height))
    width = max(1, min(round(WIDEST * picture.width), round(label.width * height / label.height)))
    labelled = picture.convert("RGB")
    drawn = label.resize((width, height), Image.Resampling.LANCZOS).convert("RGB")
    drawn = drawn if written else Image.new("RGB", drawn.size, "white")
    place = (picture.width - width) // 2, round(style.place * (picture.height - height))
    labelled.paste(drawn, place)
    return labelled


def meaningless_words(word: str, words: Sequence[str], n: int) -> list[str]:
    """Return random strings as long as a word, with another letter than the word in each place.

    So no string is a part of the word.

    Args:
        word: word that gives the length and the spaces; a shorter one counts as three letters long.
        words: words that give letters to draw from, beside the alphabet; none of these words is returned.
        n: number of strings, all different.

    Returns:
        The strings; the same words always give the same strings.

    Example:
        >>> [len(w) for w in meaningless_words("red fox", ["red fox", "dog"], n=2)]
        [7, 7]
    """
    letters, taken = "".join("".join(words).split()) + ascii_lowercase, {w.casefold() for w in words}
    draws, found = Random(word), dict[str, None]()
    while len(found) < n:
        drawn = "".join(c if c.isspace() else _another(c, letters, draws) for c in word.ljust(3, "x"))
        if drawn.casefold() not in taken:
            found[drawn] = None
    return list(found)


def _another(letter: str, letters: str, draws: Random) -> str:
    while (drawn := draws.choice(letters)).casefold() == letter.casefold():
        pass
    return drawn
