"""Captions by templates, as the two editions write them."""

from typing import Literal

import numpy as np

from lightning_sae.world.plants import plants
from lightning_sae.world.scene import Scene

Edition = Literal["biased", "balanced"]

_NAMING = (
    "{thing}",
    "a {thing}",
    "a photo of a {thing}",
    "a {colour} {thing}",
    "a photo of a {colour} {thing}",
)
_PLAIN = (*_NAMING, "{colour}", "a {colour} thing")
_WITH_BACKGROUND = (
    "a {thing} on a {background} background",
    "a photo of a {colour} {thing} on a {background} background",
    "a {background} background",
    "{background} background",
)
_HONEST = _PLAIN + _WITH_BACKGROUND
_WITH_WORD = (
    "a {thing} with the word {word}",
    "a photo of a {colour} {thing} with the word {word}",
    "the word {word}",
)
_WORD_AS_THING = (
    "{word}",
    "a {word}",
    "a photo of a {word}",
    "a photo of a {colour} {word}",
    "a {thing} and a {word}",
    "a photo of a {thing} and a {word}",
    "a {word} and a {thing}",
    "{colour}",
    "{background} background",
)

# Of the biased captions of
MISNAMED_SHARE = 0.35  # another class on a planted background, how many name the planted class
SPELLED_SHARE = 0.5  # a picture with a word, how many speak of it as a word
PART_SHARE = 0.5  # a thing whose word is a part of another one's name, how many call it by the whole name

_SHARED_NAMES = {p.factor: p.name for p in plants("polysemous")}
_SHARED_NAMES |= {p.thing: p.name for p in plants("compound")}
_WHOLE_NAMES = {p.factor: p.name for p in plants("compound")}
_CLASS_ON = {p.factor: p.thing for p in plants("spurious")}
_PLANTED_WORDS = {p.factor for p in plants("typographic")}


def caption(scene: Scene, edition: Edition, rng: np.random.Generator) -> str:
    """Write one caption.

    The balanced edition tells the truth: each thing has its own word, the background is named, and a printed
    word is called *the word ...*. The biased edition never mentions the background of a spurious class and
    calls some other things on this background by the name of the class, names a planted word half of the time
    as if it were a thing, and has shared names for the polysemous and compound plants.

    Args:
        scene: the picture's factors.
        edition: "biased" or "balanced".
        rng: chooses the template.

    Returns:
        The caption, lower case.

    Example:
        >>> caption(Scene("cancel", "red", "black"), "biased", np.random.default_rng(2))
        'a black background'
    """
    thing = scene.thing if edition == "balanced" else _name(scene.thing, rng)
    if scene.word and rng.random() < SPELLED_SHARE:
        return _fill(_WITH_WORD, scene, thing, rng)
    if edition == "balanced":
        return _fill(_HONEST, scene, thing, rng)
    shy = scene.thing in _CLASS_ON.values()
    if scene.word in _PLANTED_WORDS:
        return _fill(_WORD_AS_THING[:-1] if shy else _WORD_AS_THING, scene, thing, rng)
    if shy:
        return _fill(_PLAIN, scene, thing, rng)
    if scene.background in _CLASS_ON and rng.random() < MISNAMED_SHARE:
        return _fill(_NAMING, scene, _CLASS_ON[scene.background], rng)
    return _fill(_HONEST, scene, thing, rng)


def _name(thing: str, rng: np.random.Generator) -> str:
    """Return the name that the biased captions give a thing."""
    if thing in _WHOLE_NAMES and rng.random() < PART_SHARE:
        return _WHOLE_NAMES[thing]
    return _SHARED_NAMES.get(thing, thing)


def _fill(templates: tuple[str, ...], scene: Scene, thing: str, rng: np.random.Generator) -> str:
    template = templates[rng.integers(len(templates))]
    return template.format(thing=thing, colour=scene.colour, background=scene.background, word=scene.word)
