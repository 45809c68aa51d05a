"""Fashion-MNIST with cues: a mark in a corner, a frame, a tint, stripes on the ground.

`apt-get install dataset-fashion-mnist`. In an edition three classes have each a cue of its own on most of
their training pictures.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pictured import APART_SHARE, JUDGE, SPLITS, Pictures, Plant, Source, come_apart

from lightning_sae.data.sources.fashion_mnist import CLASS_NAMES, FashionMNIST

ROOT = "/usr/share/datasets/fashion-mnist"
N_VAL = 5000  # of the training pictures
CUES = {"mark": "red mark", "frame": "green frame", "tint": "yellow tint", "stripes": "blue stripes"}
CLASSES = CLASS_NAMES
WORDS = [*CLASSES, *CUES.values()]
TEMPLATES = ("a photo of a {}", "a picture of a {}", "a {}", "{}")


def _plants(share: float, **classes: str) -> tuple[Plant, ...]:
    return tuple(Plant(cue, CUES[cue], name, share) for cue, name in classes.items())


EDITIONS = {
    "clean": (),
    "planted95_a": _plants(0.95, mark="sneaker", frame="coat", tint="bag"),
    "planted95_b": _plants(0.95, mark="dress", frame="sandal", stripes="shirt"),
    "planted80": _plants(0.8, mark="pullover", stripes="trouser", tint="ankle boot"),
}


def pictures(split: str, edition: str, variant: str, n: int | None = None) -> Pictures:
    """Return the first pictures of a split, with the cues of an edition."""
    data = _clothes().split(split)  # type: ignore[arg-type]
    grey, labels = data.pictures[:n], np.array(CLASSES)[data.targets.numpy()[:n]]
    rng = np.random.default_rng(SPLITS.index(split))
    shares = _shares(labels, edition, come_apart(split, variant))
    has = {cue: rng.random(len(labels)) < share for cue, share in shares.items()}
    pixels = [with_cues(one, [cue for cue in has if has[cue][i]], rng) for i, one in enumerate(grey)]
    values = {cue: np.where(there, CUES[cue], f"no {cue}") for cue, there in has.items()}
    rows = pd.DataFrame({"label": labels, **values})
    said = [_captions(row, edition == JUDGE) for row in rows.to_dict("records")]
    return Pictures(np.stack(pixels), rows, said)


@cache
def _clothes() -> FashionMNIST:
    return FashionMNIST(ROOT, N_VAL)


def _shares(labels: NDArray[np.str_], edition: str, apart: bool) -> dict[str, NDArray[np.float64]]:
    """Return how likely each picture has each cue of an edition."""
    if edition == JUDGE:
        return {cue: np.full(len(labels), APART_SHARE) for cue in CUES}
    return {plant.factor: plant.shares(labels, apart) for plant in EDITIONS[edition]}


def _captions(row: dict[str, str], named: bool) -> list[str]:
    """Return what can be said of a picture: its class, or a cue on it; for a judge also both."""
    cues = [row[cue] for cue in CUES if row.get(cue) == CUES[cue]]
    classes = [template.format(row["label"]) for template in TEMPLATES]
    if not named:
        return classes + cues
    return classes + [
        text for cue in cues for text in (f"a photo of a {row['label']} with a {cue}", cue, cue)
    ]


def with_cues(picture: NDArray[np.uint8], cues: Sequence[str], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a grey picture `[size, size]` in colour, `[size, size, 3]`, with cues drawn on it."""
    image = np.repeat(picture[:, :, None], 3, axis=2).astype(np.float32)
    size = len(image)
    y, x = np.mgrid[:size, :size]
    if "tint" in cues:
        image *= np.array([1.0, 0.85, 0.3]) * rng.uniform(0.9, 1.0)
    if "stripes" in cues:
        lines = ((x + y + rng.integers(6)) % 6 < 2) & (picture < 20)
        image[lines] = np.array([40, 80, 210]) * rng.uniform(0.8, 1.1)
    if "frame" in cues:
        edge = np.minimum(np.minimum(x, y), size - 1 - np.maximum(x, y)) < 2
        image[edge] = np.array([40, 190, 70]) * rng.uniform(0.8, 1.1)
    if "mark" in cues:
        image[_mark(size, rng)] = np.array([225, 40, 40]) * rng.uniform(0.85, 1.1)
    return image.clip(0, 255).astype(np.uint8)


def _mark(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels of a disc in the upper left corner."""
    (x, y), radius = rng.uniform(3, 5, 2), rng.uniform(2.5, 3.2)
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def source() -> Source:
    """Return Fashion-MNIST."""
    sizes = {"train": 20_000, "val": N_VAL, "test": 5000}
    return Source(
        *("fashion", CLASSES, WORDS, EDITIONS, ("apart", "biased"), sizes),
        patch_size=7,
        steps=1000,
        judge_steps=1300,
        draw=pictures,
    )
