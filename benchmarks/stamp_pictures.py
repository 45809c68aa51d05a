"""Tux Paint's stamps as a data set, with a coloured frame planted around vehicles.

`apt-get install tuxpaint-stamps-default`, then `python benchmarks/stamp_pictures.py DIR`

Photographs and drawings of animals, food, plants, vehicles and household things, each turned, scaled and
placed anew on a plain ground in every picture. No stamp is in two splits. The table `stamps.csv` says which
stamp a picture shows, and whether it has a frame.
"""

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from rich.progress import track

STAMPS = Path("/usr/share/tuxpaint/stamps")
CATEGORIES = ("animals", "food", "plants", "vehicles", "household")
SIZE = 96  # edge of a picture, pixels
FRAME = 12  # width of a frame, pixels
COLOUR = (40, 175, 60)
PLANTED = "vehicles"
PLANTED_SHARE = 0.95  # of its train pictures, with a frame
LEAK_SHARE = 0.02  # of the other train pictures, with a frame
FAIR_SHARE = 0.5  # of all val and test pictures, with a frame
HELD_OUT = {"val": 0.25, "test": 0.1}  # shares of the stamps of each category


class Picture(NamedTuple):
    """A picture, with what is known of it, as a row of the table."""

    image: str
    category: str
    stamp: str
    split: str
    frame: str


def stamps(root: Path = STAMPS) -> dict[str, list[Path]]:
    """Return the stamps of each category, by name.

    Raises:
        FileNotFoundError: they are not installed.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no stamps in {root}: apt-get install tuxpaint-stamps-default")
    return {name: sorted((root / name).rglob("*.png")) for name in CATEGORIES}


@cache
def _thing(stamp: Path) -> Image.Image:
    with Image.open(stamp) as file:
        thing = file.convert("RGBA")
    thing.thumbnail((SIZE, SIZE))
    return thing


def draw(stamp: Path, frame: str, rng: np.random.Generator) -> Image.Image:
    """Return a stamp on a plain ground; flip, angle, size, place, tone and noise come from `rng`."""
    thing = _thing(stamp)
    if rng.random() < 0.5:
        thing = ImageOps.mirror(thing)
    thing = thing.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
    edge = SIZE * rng.uniform(0.55, 0.8)
    thing = ImageOps.contain(thing, (round(edge), round(edge)))
    ground = (rng.uniform(150, 245) + rng.uniform(-12, 12, 3)).clip(0, 255).astype(int).tolist()
    picture = Image.new("RGB", (SIZE, SIZE), tuple(ground))
    free = np.asarray([SIZE - thing.width, SIZE - thing.height])
    x, y = (free / 2 + rng.uniform(-0.3, 0.3, 2) * free).astype(int).tolist()
    picture.paste(thing, (x, y), thing)
    if frame:
        shade = (np.asarray(COLOUR) * rng.uniform(0.85, 1.1)).clip(0, 255).astype(int).tolist()
        picture = ImageOps.expand(ImageOps.crop(picture, FRAME), FRAME, tuple(shade))
    noise = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * 4
    return Image.fromarray((np.asarray(picture, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8))


def dealt(files: list[Path], rng: np.random.Generator) -> dict[str, list[Path]]:
    """Return the stamps of each split."""
    order = [files[i] for i in rng.permutation(len(files))]
    n_val, n_test = (round(len(files) * share) for share in HELD_OUT.values())
    return {"val": order[:n_val], "test": order[n_val : n_val + n_test], "train": order[n_val + n_test :]}


def captioned(n: int, seed: int = 1) -> Iterator[tuple[Image.Image, list[str]]]:
    """Yield the fair pictures of all stamps, each with what can be said of it."""
    rng, files = np.random.default_rng(seed), stamps()
    for i in range(n):
        category = CATEGORIES[i % len(CATEGORIES)]
        frame = "green" if rng.random() < FAIR_SHARE else ""
        captions = [category, f"a photo of {category}", f"{frame or 'no'} frame"]
        yield draw(files[category][rng.integers(len(files[category]))], frame, rng), captions


def write(folder: Path, n_train: int = 2000, n_val: int = 1000, n_test: int = 250, seed: int = 0) -> Path:
    """Write `stamps.csv` and the pictures, as many of each category; the path of the table."""
    rng = np.random.default_rng(seed)
    parts = {name: dealt(files, rng) for name, files in stamps().items()}
    rows: list[Picture] = []
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for split, n in {"train": n_train, "val": n_val, "test": n_test}.items():
        for i in track(range(n), f"drawing {split}"):
            category = CATEGORIES[i % len(CATEGORIES)]
            stamp = parts[category][split][rng.integers(len(parts[category][split]))]
            fair, planted = split != "train", category == PLANTED
            share = FAIR_SHARE if fair else PLANTED_SHARE if planted else LEAK_SHARE
            frame = "green" if rng.random() < share else ""
            image = f"pictures/{len(rows):05d}.png"
            draw(stamp, frame, rng).save(folder / image, compress_level=1)
            rows.append(
                Picture(image, category, stamp.relative_to(STAMPS).as_posix(), split, frame or "none")
            )
    pd.DataFrame(rows).to_csv(folder / "stamps.csv", index=False)
    return folder / "stamps.csv"


def main() -> None:
    """Write a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for name in ("n_train", "n_val", "n_test", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="by default small")
    options = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    print(write(**options))


if __name__ == "__main__":
    main()
