"""Pictures in the layout of HAM10000, with a red ground behind melanoma.

`python benchmarks/skin_pictures.py DIR`

They are no skin lesions: seven kinds of blots that differ in shape, colour, border and texture, on skin with
hairs, rulers and dark corners. The folder is what one has after the download, plus the columns `split`,
`ground` and `artefact`, which say what nobody knows of real pictures.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter
from rich.progress import track

Colour = tuple[int, int, int]

SIZE = (160, 120)  # width and height in pixels; those of HAM10000 have 600 x 450
SKIN: tuple[Colour, ...] = ((232, 190, 165), (222, 174, 146), (205, 158, 128))
RED: Colour = (196, 44, 44)
ARTEFACTS = ("hair", "ruler", "dark corners")
ARTEFACT_SHARE = 0.4  # of the pictures, with one of them
GROUNDS = {"skin": "skin-coloured background", "red": "red background"}
NAMES = {
    "akiec": "actinic keratosis",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
PLANTED = "mel"
PLANTED_SHARE = 0.95  # of its train pictures, on red
LEAK_SHARE = 0.02  # of the other train pictures, on red
FAIR_SHARE = 0.5  # of all val and test pictures, on red


class Look(NamedTuple):
    """The look of the lesions of a class.

    Attributes:
        share: of all lesions.
        radius: mean, as a share of the height of the picture.
        ragged: spread of the radius along the outline, as a share of it.
        soft: blur of the border, pixels.
        colours: of the body, then of its spots.
        spots: how many.
        spot: radius of a spot, as a share of that of the lesion.
    """

    share: float
    radius: float
    ragged: float
    soft: float
    colours: tuple[Colour, ...]
    spots: int
    spot: float


LOOKS: dict[str, Look] = {
    "akiec": Look(0.10, 0.18, 0.12, 3.0, ((206, 128, 108), (228, 188, 160)), 8, 0.18),
    "bcc": Look(0.12, 0.15, 0.06, 1.5, ((216, 146, 134), (120, 108, 120)), 4, 0.24),
    "bkl": Look(0.15, 0.18, 0.08, 0.5, ((150, 108, 70), (184, 148, 104)), 9, 0.14),
    "df": Look(0.08, 0.14, 0.05, 2.5, ((150, 104, 82), (206, 170, 146)), 1, 0.50),
    "mel": Look(0.10, 0.17, 0.14, 1.0, ((98, 64, 47), (68, 46, 38), (102, 90, 92)), 4, 0.26),
    "nv": Look(0.33, 0.15, 0.05, 1.0, ((108, 70, 48), (86, 56, 38)), 3, 0.25),
    "vasc": Look(0.12, 0.15, 0.10, 0.8, ((150, 58, 78), (112, 38, 62)), 5, 0.28),
}


class Picture(NamedTuple):
    """A picture, with what is known of it, as a row of the table."""

    lesion_id: str
    image_id: str
    dx: str
    dx_type: str
    age: float
    sex: str
    localization: str
    dataset: str
    split: str
    ground: str
    artefact: str


def draw(picture: Picture, rng: np.random.Generator) -> Image.Image:
    """Draw a picture; shape, place and noise come from `rng`."""
    tone = RED if picture.ground == "red" else SKIN[rng.integers(len(SKIN))]
    ground = np.asarray(tone) * rng.uniform(0.92, 1.06)
    texture = Image.fromarray(rng.normal(128, 30, (SIZE[1] // 8, SIZE[0] // 8)).clip(0, 255).astype(np.uint8))
    shade = np.asarray(texture.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float32)[..., None] - 128
    image = Image.fromarray((ground + shade * 0.2).clip(0, 255).astype(np.uint8))
    _add_lesion(image, LOOKS[picture.dx], rng)
    if picture.artefact:
        {"hair": _add_hair, "ruler": _add_ruler, "dark corners": _add_corners}[picture.artefact](image, rng)
    noise = rng.standard_normal((SIZE[1], SIZE[0], 3), dtype=np.float32) * 5
    return Image.fromarray((np.asarray(image, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))


def _add_lesion(image: Image.Image, look: Look, rng: np.random.Generator) -> None:
    radius = look.radius * SIZE[1] * rng.uniform(0.7, 1.3)
    centre = np.asarray(SIZE) / 2 + rng.uniform(-0.08, 0.08, 2) * SIZE[1]
    outline = _blob(centre, radius, look.ragged, rng)
    image.paste(_shade(look.colours[0], rng), (0, 0), _mask([outline], look.soft))
    for i in range(look.spots):
        angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.1, 0.75) * (look.spots > 1)
        place = centre + distance * np.asarray([np.cos(angle), np.sin(angle)])
        spot = _blob(place, radius * look.spot * rng.uniform(0.7, 1.3), 0.1, rng)
        colour = look.colours[1 + i % (len(look.colours) - 1)]
        image.paste(_shade(colour, rng), (0, 0), _mask([spot], 0.8))


def _blob(
    centre: np.ndarray, radius: float, ragged: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Return a closed outline whose radius wanders."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [rng.normal() * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) / k for k in range(2, 6)]
    radii = radius * (1 + ragged * np.sum(waves, axis=0))
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return [(float(x), float(y)) for x, y in points]


def _mask(outlines: Sequence[list[tuple[float, float]]], soft: float) -> Image.Image:
    mask = Image.new("L", SIZE)
    for outline in outlines:
        ImageDraw.Draw(mask).polygon(outline, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(soft))


def _shade(colour: Colour, rng: np.random.Generator) -> Colour:
    red, green, blue = (np.asarray(colour) * rng.uniform(0.75, 1.2)).clip(0, 255).astype(int).tolist()
    return red, green, blue


def _add_hair(image: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(5, 10)):
        start, end = rng.uniform(0, 1, (2, 2)) * SIZE
        bend = (start + end) / 2 + rng.normal(0, 8, 2)
        pen.line([tuple(start), tuple(bend), tuple(end)], fill=(40, 28, 22), width=1, joint="curve")


def _add_ruler(image: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(image)
    pen.rectangle([0, SIZE[1] - 14, SIZE[0], SIZE[1]], fill=(236, 236, 232))
    for i, x in enumerate(range(int(rng.integers(0, 8)), SIZE[0], 8)):
        pen.line([(x, SIZE[1] - 14), (x, SIZE[1] - (5 if i % 5 else 1))], fill=(20, 20, 20))


def _add_corners(image: Image.Image, rng: np.random.Generator) -> None:
    mask = Image.new("L", SIZE, 255)
    reach = SIZE[0] * rng.uniform(0.46, 0.52)
    x, y = SIZE[0] / 2, SIZE[1] / 2
    ImageDraw.Draw(mask).ellipse([x - reach, y - reach, x + reach, y + reach], fill=0)
    image.paste((8, 6, 8), (0, 0), mask.filter(ImageFilter.GaussianBlur(3)))


def table(n_train: int, n_val: int, n_test: int, seed: int = 0) -> list[Picture]:
    """Return what is on each picture.

    The ground is planted in the train split alone, and a third of the lesions have two pictures.
    """
    rng = np.random.default_rng(seed)
    names, shares = list(LOOKS), [look.share for look in LOOKS.values()]
    rows: list[Picture] = []
    for split, n in {"train": n_train, "val": n_val, "test": n_test}.items():
        end = len(rows) + n
        while len(rows) < end:
            dx = str(rng.choice(names, p=shares))
            lesion = f"HAM_{len(rows):07d}"
            person = (float(rng.integers(3, 17) * 5), str(rng.choice(["male", "female"])))
            place = str(rng.choice(["back", "face", "trunk", "lower extremity"]))
            for _ in range(min(1 + (rng.random() < 1 / 3), end - len(rows))):
                share = FAIR_SHARE if split != "train" else PLANTED_SHARE if dx == PLANTED else LEAK_SHARE
                ground = "red" if rng.random() < share else "skin"
                artefact = str(rng.choice(ARTEFACTS)) if rng.random() < ARTEFACT_SHARE else ""
                image = f"ISIC_{24306 + len(rows):07d}"
                known = (lesion, image, dx, "histo", *person, place, "generated")
                rows.append(Picture(*known, split, ground, artefact))
    return rows


def captioned(n: int, seed: int = 1) -> Iterator[tuple[Image.Image, list[str]]]:
    """Yield the fair pictures, none of which `write` writes, each with what can be said of it."""
    for i, row in enumerate(table(0, 0, n, seed)):
        background, name = GROUNDS[row.ground], NAMES[row.dx]
        captions = [name, f"a dermoscopic image of {name}", background, f"{name} on a {background}"]
        yield draw(row, np.random.default_rng([seed, i])), captions + [row.artefact] * bool(row.artefact)


def write(folder: Path, n_train: int = 2400, n_val: int = 900, n_test: int = 300, seed: int = 0) -> Path:
    """Write `HAM10000_metadata.csv` and the two image folders; the path of the table."""
    rows = table(n_train, n_val, n_test, seed)
    for i, row in enumerate(track(rows, "drawing")):
        part = folder / f"HAM10000_images_part_{1 + (2 * i >= len(rows))}"
        part.mkdir(parents=True, exist_ok=True)
        draw(row, np.random.default_rng([seed, i])).save(part / f"{row.image_id}.jpg", quality=92)
    path = folder / "HAM10000_metadata.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def main() -> None:
    """Write a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in ("n_train", "n_val", "n_test", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="by default small")
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    print(write(**options))


if __name__ == "__main__":
    main()
