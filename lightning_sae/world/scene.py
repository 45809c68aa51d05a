"""The contents of a picture: a thing in a colour on a background, sometimes with a word printed on it."""

from typing import NamedTuple

Colour = tuple[int, int, int]

THINGS: dict[str, str] = {
    "star": "★",
    "umbrella": "☂",
    "anchor": "⚓",
    "heart": "♥",
    "flag": "⚑",
    "telephone": "☎",
    "plane": "✈",
    "face": "☻",
    "arrow": "➜",
    "cross": "✝",
    "cancel": "✖",
    "bolt": "⚡",
    "gear": "⚙",
    "note": "♫",
    "envelope": "✉",
    "sun": "☀",
    "flower": "✿",
    "club": "♣",
    "house": "⌂",
    "snow": "❄",
    "cloud": "☁",
    "horse": "♞",
    "peace": "☮",
    "crown": "♛",
}
"""The classes: a name, as the balanced edition's captions use it, and a glyph of DejaVu Sans."""

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (245, 145, 25),
    "yellow": (245, 225, 50),
    "green": (40, 175, 60),
    "cyan": (60, 205, 215),
    "blue": (55, 90, 230),
    "purple": (150, 60, 190),
    "pink": (245, 130, 185),
}

BACKGROUNDS: dict[str, Colour] = {
    "brown": (105, 66, 36),
    "gray": (128, 128, 128),
    "white": (240, 240, 240),
    "black": (14, 14, 14),
    "navy": (22, 26, 78),
}

WORDS: tuple[str, ...] = ("flag", "plane", "arrow", "crown", "horse", "peace")
"""Words that are printed in the ordinary splits; a counterfactual may print any word."""


class Scene(NamedTuple):
    """The factors of one picture.

    Attributes:
        thing: a key of `THINGS`.
        colour: a key of `COLOURS`.
        background: a key of `BACKGROUNDS`.
        word: the word printed on the picture; "" for none.
    """

    thing: str
    colour: str
    background: str
    word: str = ""
