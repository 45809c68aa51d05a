"""Fonts that have the letters of a text: the usual font, and the system's fonts for letters it lacks."""

from collections.abc import Collection, Iterable, Iterator
from functools import cache

from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font


def fonts_for(letters: Iterable[str]) -> Iterator[str]:
    """Yield files of system fonts that together have the letters, as far as such fonts exist.

    Example:
        >>> list(fonts_for(""))
        []
    """
    wanted = set(letters)
    for path in sorted(findSystemFonts()) if wanted else []:
        if wanted & letters_of(path):
            wanted -= letters_of(path)
            yield path
        if not wanted:
            return


def font_with(letters: Collection[str], usual: str) -> str | None:
    """Return the file of a font that has all the letters, or `None`.

    Args:
        letters: the letters; only those that can be printed count.
        usual: file of the font that is tried first, before those of the system.
    """
    wanted = {letter for letter in letters if letter.isprintable()}
    if wanted <= letters_of(usual):
        return usual
    return next((path for path in sorted(findSystemFonts()) if wanted <= letters_of(path)), None)


@cache
def letters_of(path: str) -> frozenset[str]:
    """Return the letters that a font has as outlines; none if it cannot be read or has only bitmaps."""
    try:
        font = FT2Font(path)
    except RuntimeError:  # a format that FreeType does not know
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
