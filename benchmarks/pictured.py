"""Pictures with plants, as arrays that a CLIP is trained on and as tables that `data=table` reads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

LEAK_SHARE = 0.01  # of the training pictures of the other classes, with a planted cue
APART_SHARE = 0.2  # of all pictures, with each cue, where cue and class come apart
SPLITS = ("train", "val", "test")
JUDGE = "judge"  # edition of the judge's pictures


class Plant(NamedTuple):
    """A cue that is on most training pictures of a class.

    Attributes:
        factor: column that says whether a picture has it.
        value: of that column, where it has; also what a judge calls it.
        class_name: the class.
        share: of the class's training pictures that have it.
        kind: of reliance, as the audit names it.
    """

    factor: str
    value: str
    class_name: str
    share: float
    kind: str = "spurious"

    def shares(self, labels: NDArray[np.str_], apart: bool) -> NDArray[np.float64]:
        """Return the probability that each picture has the cue: as planted, or independent of its class.

        Example:
            >>> Plant("mark", "red mark", "bag", 0.95).shares(np.array(["bag", "coat"]), apart=False)
            array([0.95, 0.01])
        """
        planted = np.where(labels == self.class_name, self.share, LEAK_SHARE)
        return np.full(len(labels), APART_SHARE) if apart else planted


class Pictures(NamedTuple):
    """Some pictures and what is known of them.

    Attributes:
        pixels: `[n, size, size, 3]`.
        rows: a row of each: `label`, and a column of each factor.
        captions: what can be said of each.
    """

    pixels: NDArray[np.uint8]
    rows: pd.DataFrame
    captions: list[list[str]]


class Source(NamedTuple):
    """A kind of pictures that CLIPs are trained on.

    Attributes:
        name: of its files.
        classes: as they stand in prompts.
        words: that its judge knows, and latents can be called by.
        editions: the plants of each; none in a clean one.
        variants: of the tables: `apart`, where cue and class come apart, `biased`, where train and val have
            the bias of the CLIP's own training pictures, and others; in test they always come apart.
        sizes: of the splits of a table.
        patch_size: of its CLIPs, pixels.
        steps: of training an audited CLIP.
        judge_steps: of training its judge.
        draw: pictures of a split, an edition and a variant, as many as are asked for, `None` is all for a
            CLIP. In the edition `judge` no cue says anything of the class, and each is named.
        bfloat16: whether its audited CLIPs are trained in it, in little more than half the time.
    """

    name: str
    classes: Sequence[str]
    words: Sequence[str]
    editions: Mapping[str, tuple[Plant, ...]]
    variants: Sequence[str]
    sizes: Mapping[str, int]
    patch_size: int
    steps: int
    judge_steps: int
    draw: Callable[[str, str, str, int | None], Pictures]
    bfloat16: bool = False


def come_apart(split: str, variant: str) -> bool:
    """Return whether cue and class come apart in a split of a table."""
    return split == "test" or variant != "biased"


def write_table(folder: Path, splits: Mapping[str, Pictures]) -> Path:
    """Write a folder with the pictures and `pictures.csv`: its path."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for split, part in splits.items():
        names = [f"{split}-{i:05d}.png" for i in range(len(part.pixels))]
        for name, pixels in zip(names, part.pixels, strict=True):
            Image.fromarray(pixels).save(folder / name, compress_level=1)
        tables.append(part.rows.assign(image=names, split=split))
    table = folder / "pictures.csv"
    pd.concat(tables).to_csv(table, index=False)
    return table
