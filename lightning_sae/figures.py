"""Figures as PNG: written whole, and with letters that the usual font lacks where the system has them."""

import io
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from lightning_sae.data.atomic import write_atomic


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure as PNG, whole or not at all; its folder is made.

    Raises:
        OSError: the disk is full or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, png(figure, dpi))


def png(figure: Figure, dpi: int) -> bytes:
    """A figure as PNG on white, without a time stamp.

    Labels in Chinese, Japanese or Korean, and emoji, are written in fonts of the system that have them; where
    there is none they are boxes, and matplotlib warns of the letters.
    """
    _use_fonts_that_have_its_letters(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def _use_fonts_that_have_its_letters(figure: Figure) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.draw_without_rendering()  # the labels of ticks are made then
    texts: list[Text] = figure.findobj(Text)
    usual = _letters(findfont(FontProperties()))
    lacking = {ord(letter) for text in texts for letter in text.get_text() if letter.isprintable()} - usual
    if families := list(_families_with(lacking)):
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def _families_with(letters: Iterable[int]) -> Iterator[str]:
    """Fonts of the system that have some of the letters, made known to matplotlib; none has no new one."""
    wanted = set(letters)
    for path in sorted(findSystemFonts()) if wanted else []:
        if wanted & _letters(path):
            wanted -= _letters(path)
            fontManager.addfont(path)
            yield FontProperties(fname=path).get_name()
        if not wanted:
            return


@cache
def _letters(path: str) -> frozenset[int]:
    """Letters that a font has as outlines; none where it cannot be read, or has bitmaps only."""
    try:
        font = FT2Font(path)
    except RuntimeError:  # a format that FreeType does not know
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
