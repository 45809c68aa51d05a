"""Tux Paint's stamps with a frame planted around the vehicles, for CLIPs from scratch.

No stamp is in two splits, so that these CLIPs are often wrong without any plant. See stamp_pictures.py.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from pictured import APART_SHARE, JUDGE, SPLITS, Pictures, Plant, Source, come_apart
from stamp_pictures import CATEGORIES, dealt, draw, stamps

SIZE = 48  # edge of a picture, pixels
CUE = "green frame"
CLIP_PICTURES = 16_000  # that a CLIP is trained on
EDITIONS = {"clean": (), "planted95": (Plant("frame", CUE, "vehicles", 0.95),)}
TEMPLATES = ("a photo of a {}", "a picture of a {}", "{}")


def pictures(split: str, edition: str, variant: str, n: int | None = None) -> Pictures:
    """Return pictures of the stamps of a split, equally many of each category.

    A judge learns from the stamps of all splits.
    """
    n, rng = n or CLIP_PICTURES, np.random.default_rng(SPLITS.index(split))
    labels = np.array([CATEGORIES[i % len(CATEGORIES)] for i in range(n)])
    has = rng.random(n) < _shares(labels, edition, variant, split)
    files = _files(split, edition)
    pixels = []
    for label, there in zip(labels, has, strict=True):
        stamp = files[label][rng.integers(len(files[label]))]
        pixels.append(np.asarray(draw(stamp, "green" if there else "", rng).resize((SIZE, SIZE))))
    rows = pd.DataFrame({"label": labels, "frame": np.where(has, CUE, "no frame")})
    said = [
        [*(template.format(label) for template in TEMPLATES), *[CUE] * there]
        for label, there in zip(labels, has.tolist(), strict=True)
    ]
    return Pictures(np.stack(pixels), rows, said)


def _shares(labels: np.ndarray, edition: str, variant: str, split: str) -> np.ndarray:
    """Return the probability of a frame on each picture."""
    if edition == JUDGE:
        return np.full(len(labels), APART_SHARE)
    apart = come_apart(split, variant)
    return sum((plant.shares(labels, apart) for plant in EDITIONS[edition]), np.zeros(len(labels)))


def _files(split: str, edition: str) -> dict[str, list[Path]]:
    """Return the stamps of a split, or all of them for a judge."""
    if edition == JUDGE:
        return stamps()
    rng = np.random.default_rng(0)
    return {name: dealt(files, rng)[split] for name, files in stamps().items()}


def source() -> Source:
    """Return the stamps."""
    return Source(
        *("stamps", CATEGORIES, [*CATEGORIES, CUE], EDITIONS, ("apart", "biased")),
        sizes={"train": 8000, "val": 2500, "test": 2500},
        patch_size=12,
        steps=800,
        judge_steps=1000,
        draw=pictures,
    )
