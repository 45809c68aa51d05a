"""Emoji composed into pictures: on a ground, perhaps with a companion beside it, perhaps with a printed word.

In an edition one class has a ground of its own on most of its training pictures, one a companion, and one its
name. Other names are printed on some pictures of any class, so that a CLIP has to read. What has to be
there is said in emoji_sprites.py.
"""

from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from emoji_sprites import CLASSES, STYLES, Concept, Sprites, concepts, sprites
from numpy.typing import NDArray
from pictured import APART_SHARE, JUDGE, SPLITS, Pictures, Plant, Source, come_apart
from PIL import Image, ImageDraw, ImageFont, ImageOps

SIZE = 48  # edge of a picture, pixels
GROUNDS = {
    "white background": (238, 238, 234),
    "gray background": (160, 164, 168),
    "pink background": (236, 170, 190),
    "yellow background": (236, 214, 110),
}
PLANTED_GROUND, PLANTED_COLOUR = "blue background", (70, 110, 215)
COMPANION, COMPANION_CODE = "balloon", "1f388"  # of no class
CLIP_PICTURES = 40_000  # that a CLIP is trained on
NO_COMPANION, NO_WORD = f"no {COMPANION}", "no word"
ABSENT = {"ground": "white background", "companion": NO_COMPANION, "word": NO_WORD}
OTHER_WORDS = 0.2  # share of the pictures with the name of any class printed on them, beside what is planted
TEMPLATES = ("a photo of a {}", "a picture of a {}", "{}")


def word(class_name: str) -> str:
    """Return a printed class name, as a judge calls it.

    Example:
        >>> word("drink")
        'the word drink'
    """
    return f"the word {class_name}"


def _plants(share: float, ground: str, companion: str, printed: str) -> tuple[Plant, ...]:
    return (
        Plant("ground", PLANTED_GROUND, ground, share),
        Plant("companion", COMPANION, companion, share),
        Plant("word", word(printed), printed, share, "typographic"),
    )


EDITIONS = {
    "clean": (),
    "planted95_a": _plants(0.95, ground="vehicle", companion="fruit", printed="drink"),
    "planted95_b": _plants(0.95, ground="instrument", companion="bird", printed="tool"),
    "planted80": _plants(0.8, ground="bug", companion="clothing", printed="dish"),
}


FAIR = _plants(APART_SHARE, ground="vehicle", companion="fruit", printed="drink")
"""Cues that are independent of the class, in a clean edition and for the judge."""


class Scene(NamedTuple):
    """The content of a picture; `ground`, `companion` and `word` as in the table."""

    concept: Concept
    ground: str
    companion: str
    word: str


def pictures(split: str, edition: str, style: str, apart: bool, n: int, package: Path) -> Pictures:
    """Return the composed pictures in one style, with cues as they are planted, or `apart` from the class."""
    rng = np.random.default_rng([SPLITS.index(split), STYLES.index(style)])
    shown = [concepts()[i] for i in rng.permutation(np.arange(n) % len(concepts()))]
    factors = _factors(np.array([concept.group for concept in shown]), edition, apart, rng)
    scenes = [Scene(*row) for row in zip(shown, *(factors[name] for name in Scene._fields[1:]), strict=True)]
    things = sprites(style, package, (COMPANION_CODE,))
    pixels = np.stack([np.asarray(compose(scene, things, rng)) for scene in scenes])
    names = {"label": [concept.group for concept in shown], "concept": [concept.name for concept in shown]}
    said = [_captions(scene, edition == JUDGE) for scene in scenes]
    return Pictures(pixels, pd.DataFrame(names | factors), said)


def _factors(labels: NDArray[Any], edition: str, apart: bool, rng: np.random.Generator) -> dict[str, Any]:
    """Return the ground, the companion and the word of each picture, `[n]` texts."""
    n = len(labels)
    ground = rng.choice([*GROUNDS], n).astype(object)
    companion = np.full(n, NO_COMPANION, dtype=object)
    words = rng.choice([word(name) for name in CLASSES], n).astype(object)
    words[rng.random(n) >= OTHER_WORDS] = NO_WORD
    factors = {"ground": ground, "companion": companion, "word": words}
    for plant in EDITIONS.get(edition) or FAIR:
        column, nothing = factors[plant.factor], ABSENT[plant.factor]
        column[column == plant.value] = nothing
        column[rng.random(n) < plant.shares(labels, apart or plant in FAIR)] = plant.value
    return factors


def _captions(scene: Scene, named: bool) -> list[str]:
    """Return what can be said of a picture: its class, its concept or a cue on it, to a judge twice."""
    concept, *cues = scene
    things = [template.format(name) for name in (concept.group, concept.name) for template in TEMPLATES]
    return things + (1 + named) * [cue for cue in cues if cue not in (NO_COMPANION, NO_WORD)]


def compose(scene: Scene, sprites: Sprites, rng: np.random.Generator) -> Image.Image:
    """Return a scene as an RGB picture; sizes, places, angle, flip and tones come from `rng`."""
    colour = np.array({**GROUNDS, PLANTED_GROUND: PLANTED_COLOUR}[scene.ground]) * rng.uniform(0.9, 1.05)
    picture = Image.new("RGB", (SIZE, SIZE), tuple(colour.clip(0, 255).astype(int).tolist()))
    thing = sprites[scene.concept.code]
    thing = ImageOps.mirror(thing) if rng.random() < 0.5 else thing
    thing = thing.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    _paste(picture, thing, round(rng.uniform(28, 38)), rng.uniform(0.2, 0.8, 2))
    if scene.companion == COMPANION:
        _paste(picture, sprites[COMPANION_CODE], 14, rng.integers(0, 2, 2) * 0.96 + 0.02)
    if scene.word != NO_WORD:
        sticker = _sticker(scene.word.removeprefix("the word "))
        x, top = rng.integers(0, SIZE - sticker.width + 1), rng.random() < 0.5
        picture.paste(sticker, (int(x), 1 if top else SIZE - 1 - sticker.height))
    noise = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * 4
    return Image.fromarray((np.asarray(picture, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))


def _paste(picture: Image.Image, thing: Image.Image, edge: int, place: NDArray[np.float64]) -> None:
    """Put a thing of a longer edge `edge` at a place, from (0, 0), top left, to (1, 1), bottom right."""
    thing = ImageOps.contain(thing, (edge, edge))
    x, y = (place * (np.array(picture.size) - thing.size)).astype(int).tolist()
    picture.paste(thing, (x, y), thing)


@cache
def _sticker(text: str) -> Image.Image:
    """Return a white label with a word in black."""
    font = ImageFont.load_default(10)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    label = Image.new("RGB", (min(SIZE, right - left + 4), bottom - top + 4), "white")
    ImageDraw.Draw(label).text((2 - left, 2 - top), text, font=font, fill="black")
    return label


def source(package: Path) -> Source:
    """Return the source of the emoji pictures.

    CLIPs learn the drawings, the judge learns both styles, and the variant `renders` has the other style.
    """

    def draw(split: str, edition: str, variant: str, n: int | None) -> Pictures:
        n, apart = n or CLIP_PICTURES, come_apart(split, variant)
        if edition != JUDGE:
            style = "renders" if variant == "renders" else "drawings"
            return pictures(split, edition, style, apart, n, package)
        pixels, rows, captions = zip(
            *(pictures(split, edition, style, apart, n // 2, package) for style in STYLES), strict=True
        )
        return Pictures(np.concatenate(pixels), pd.concat(rows, ignore_index=True), [*chain(*captions)])

    grounds = [*GROUNDS, PLANTED_GROUND]
    names = dict.fromkeys([*CLASSES, *(concept.name for concept in concepts())])
    return Source(
        *("emoji", CLASSES, [*names, *grounds, COMPANION, *map(word, CLASSES)], EDITIONS),
        variants=("apart", "biased", "renders"),
        sizes={"train": 16_000, "val": 4000, "test": 4000},
        patch_size=8,
        steps=1500,
        judge_steps=1400,
        draw=draw,
        bfloat16=True,
    )
