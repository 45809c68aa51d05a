"""Figures as PNG: written whole, with the system's fonts for letters that the usual font lacks."""

import io
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.text import Text

from lightning_sae.files import write_atomic
from lightning_sae.report.fonts import fonts_for, letters_of


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, whole or not at all; make its folder.

    Raises:
        OSError: the disk is full or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, png(figure, dpi))


def png(figure: Figure, dpi: int) -> bytes:
    """Return a figure as PNG on white, without a time stamp.

    Labels in Chinese, Japanese or Korean, and emoji, are written in fonts of the system that have them; if
    there is no such font they appear as boxes, and matplotlib warns of the letters.
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
    usual = letters_of(findfont(FontProperties()))
    lacking = {letter for text in texts for letter in text.get_text() if letter.isprintable()} - usual
    if families := [_made_known(path) for path in fonts_for(lacking)]:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def _made_known(path: str) -> str:
    """Return the family of a font that matplotlib can use from now on."""
    fontManager.addfont(path)
    return FontProperties(fname=path).get_name()
