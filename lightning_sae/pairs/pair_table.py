"""Pairs of a table: two image files a row, and in what they differ."""

import posixpath
from pathlib import Path

import numpy as np
import torch

from lightning_sae.data.images.image_files import ImageFile, ImageFiles
from lightning_sae.data.images.image_set import ImageSet, listed
from lightning_sae.pairs.pair import Contrast, ImagePairs
from lightning_sae.trust.tables import read_csv


class PairTable:
    """Rows of a CSV file as pairs.

    Args:
        path: of the file, UTF-8, its first line names the columns.
        root: where the paths in it start; `None` is the folder of the table.
        before: column with the first image of each pair.
        after: column with the second one.
        factor: column that says what changes from the first to the second; `None`: the same in all pairs.
        name: of what changes in all pairs, where no column says it.
        value: column that says what it changes to; `None`: the factor itself is what comes.
        value_before: column that says what it changes from; `None`: nobody knows.
        label: column with the class of both images; `None`: nobody knows, and no pair is left out of the
            evidence against a class because it shows the class.

    Raises:
        FileNotFoundError: (from `pairs`) no table, or image files that are not there; all counted, the first
            ten named.
        ValueError: (from `pairs`) it has no rows, lacks columns, or rows lack an image or a factor.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        before: str = "before",
        after: str = "after",
        factor: str | None = "factor",
        name: str = "change",
        value: str | None = None,
        value_before: str | None = None,
        label: str | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.root = Path(root).expanduser() if root else self.path.parent
        self.before, self.after, self.factor, self.name = before, after, factor, name
        self.value, self.value_before, self.label = value, value_before, label

    def pairs(self, images: ImageSet) -> ImagePairs:
        """Return a pair a row; of the images of the data, only the names of their classes count."""
        if not self.path.is_file():
            raise FileNotFoundError(f"no table of pairs {self.path}: name a CSV file with `path`")
        table = read_csv(self.path)
        needed = [self.before, self.after, *([self.factor] if self.factor else [])]
        optional = [column for column in (self.value, self.value_before, self.label) if column]
        self._check(table.columns.tolist(), [*needed, *optional])
        lacking = (table[needed].to_numpy() == "").any(axis=1)
        if empty := [f"row {row}" for row in (np.flatnonzero(lacking) + 1).tolist()]:
            raise ValueError(
                f"{len(empty)} rows of {self.path} lack {' or '.join(needed)}:{listed(empty)}\nFill them in"
            )
        if not len(table):
            raise ValueError(f"{self.path} has no rows: a pair is a row of {', '.join(needed)}")
        cells = {name: table[name].tolist() for name in [*needed, *optional]}
        sides = [[posixpath.normpath(path) for path in cells[side]] for side in (self.before, self.after)]
        labels = self._labels(cells[self.label] if self.label else [""] * len(table), images.class_names)
        classes = {path: c for side in sides for path, c in zip(side, labels, strict=True)}
        row = {path: i for i, path in enumerate(classes)}
        before, after = (torch.tensor([row[path] for path in side]) for side in sides)
        olds = cells[self.value_before] if self.value_before else [""] * len(table)
        news = cells[self.value] if self.value else [""] * len(table)
        factors = cells[self.factor] if self.factor else [self.name] * len(table)
        contrasts = [
            Contrast(factor, old or None, new) for factor, old, new in zip(factors, olds, news, strict=True)
        ]
        whole = ImageFiles(self.root, self._files(classes), images.class_names, f"{self.path.stem}-pairs")
        return ImagePairs(whole, before, after, contrasts)

    def _check(self, present: list[str], wanted: list[str]) -> None:
        if unknown := [column for column in wanted if column not in present]:
            raise ValueError(
                f"{self.path} has no column {', '.join(unknown)}; it has {', '.join(present)}. Name them "
                "with before, after and factor (null where no column says it); value, value_before and label "
                "where there are such"
            )

    def _labels(self, labels: list[str], class_names: list[str]) -> list[int]:
        if unknown := sorted({label for label in labels if label and label not in class_names}):
            raise ValueError(
                f"{self.path} has classes that the data lack:{listed(unknown)}\nName them as the data do"
            )
        return [class_names.index(label) if label else -1 for label in labels]

    def _files(self, classes: dict[str, int]) -> list[ImageFile]:
        if lost := [path for path in classes if not (self.root / path).is_file()]:
            raise FileNotFoundError(
                f"{len(lost)} of {len(classes)} images of {self.path} are not in {self.root}:{listed(lost)}\n"
                "Copy them there, take their rows out, or say with `root` where the paths start"
            )
        return [ImageFile(path, (self.root / path).stat().st_size, c) for path, c in classes.items()]
