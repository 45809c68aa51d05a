"""A table of images: a CSV or parquet file with a path, a class, a split and any groups in each row."""

import errno
import os
import posixpath
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.copies import keep_copies_together
from lightning_sae.data.images.image_files import ImageFile, ImageFiles
from lightning_sae.data.images.image_set import Split, listed
from lightning_sae.data.sources.columns import Column, Names, class_names, known_classes, split_names
from lightning_sae.data.sources.file_ids import locate
from lightning_sae.data.sources.given_classes import Classes, given_classes
from lightning_sae.data.sources.grouped_splits import check_together, split_together, units_of
from lightning_sae.data.sources.splits import check_fractions, stratified_split
from lightning_sae.data.sources.table_file import read_table

Rows = NDArray[np.int64]
NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class ImageTable:
    """Rows of a table as images; the order of a split is that of the paths.

    A split that the table lacks is taken from the train rows by class, in the order of a hash of seed and
    path, as in `ImageFolders`. Group columns are known truth: each a factor of the images.

    Args:
        path: a row per image, as `read_table` takes it: `.csv`, `.tsv` or `.parquet`.
        root: where the paths in it start; `None` is the folder of the table.
        names: of the columns.
        split: column that says which split a row belongs to; `None` where there is none.
        names_of_splits: what the splits are called there; `None` knows train, val, validation, test and such.
        val_fraction: share of each class that becomes `val` where the table has none, in [0, 1).
        test_fraction: share of each class that becomes `test`, the same.
        seed: another seed holds out other images.
        files: where the images lie if the column holds ids, such as `part_*/{}.jpg` (`locate`); `None` if it
            holds paths.
        together: column, such as the patient: rows with the same value never go into different splits, and
            the fractions are then shares of these values.
        caption: column of texts that say what each image shows; those of `val` and `test` are labels worth
            trying.

    Raises:
        FileNotFoundError: no table, or image files that are not there; all counted, the first ten named.
        ValueError: columns, classes or splits that are not there, rows without a path or a split, ids with
            several files, or splits that part what belongs together.
        ModuleNotFoundError: a parquet file, and pyarrow is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        root: str | Path | None = None,
        names: Names | None = None,
        split: str | None = "split",
        names_of_splits: Mapping[str, Any] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        files: str | None = None,
        together: str | None = None,
        caption: str | None = None,
    ) -> None:
        names = names or Names()
        fractions = check_fractions(val_fraction, test_fraction)
        self.path = Path(path).expanduser()
        self.root = Path(root).expanduser() if root else self.path.parent
        wanted = [names.image, *names.known, *(column for column in (split, together, caption) if column)]
        wanted = list(dict.fromkeys(wanted))
        frame = read_table(self.path, wanted)
        columns = {name: Column.of(frame[name], f"{self.path}, column {name!r}") for name in wanted}
        paths = _paths(columns[names.image], self.path)
        paths = locate(self.root, files, paths) if files else [posixpath.normpath(path) for path in paths]
        rows = _rows(len(paths), columns[split] if split else None, names_of_splits, self.path)
        labels = self._label(columns, names, rows)
        self.factors = {name: columns[name].factor() for name in names.groups}
        self._captions = columns[caption] if caption else None
        missing = {name: share for name, share in fractions.items() if name not in rows}
        units = units_of(columns[together], paths) if together else None
        train = rows["train"]
        if units:
            self._rows = rows | split_together(units, labels, train, missing, seed)
            check_together(units, self._rows, f"{together} in {self.path}")
        else:
            dealt = stratified_split([paths[i] for i in train], labels[train], missing, seed)
            self._rows = rows | {name: train[part] for name, part in dealt.items()}
        self._files = self._find(paths, labels)
        if missing and not units:
            self._keep_copies_together(train, [*missing])

    def split(self, name: Split) -> ImageFiles:
        """Return the images of one split."""
        rows = self._rows[name]
        if not len(rows):
            raise ValueError(
                f"the {name} split of {self.path} is empty: raise data.{name}_fraction, or name one with "
                "data.split and data.split_names"
            )
        rows = np.array(sorted(rows.tolist(), key=lambda row: self._files[row]))
        factors = {factor: (values, truth[rows]) for factor, (values, truth) in self.factors.items()}
        files = [self._files[row] for row in rows]
        captions = self._captions.texts(rows) if self._captions and name != "train" else ()
        return ImageFiles(self.root, files, self.class_names, f"{self.path.stem}-{name}", factors, captions)

    def _label(self, columns: Mapping[str, Column], names: Names, rows: Mapping[Split, Rows]) -> Rows:
        label = columns[names.label] if names.label else None
        label = label and label.as_labels(f"{self.path}, column {names.label!r}", names.classes)
        train = label and label.take(rows["train"])
        given = known_classes(names.classes, train)
        self.class_names = class_names(train, given)
        labels = np.full(len(columns[names.image].codes), -1, dtype=np.int64)
        if label:
            used = np.sort(np.concatenate([*rows.values()]))
            labels[used] = label.take(used).indices(self.class_names, given, str(self.path))
        return labels

    def _keep_copies_together(self, train: Rows, dealt: Sequence[Split]) -> None:
        """Put all names and all copies of one file into the split of the first of them."""
        files = [self._files[row] for row in train.tolist()]
        parts = {split: np.searchsorted(train, self._rows[split]) for split in ("train", *dealt)}
        kept = keep_copies_together(parts, ImageFiles(self.root, files, self.class_names, "train"))
        self._rows |= {split: train[part] for split, part in kept.items()}

    def _find(self, paths: Sequence[str], labels: Rows) -> dict[int, ImageFile]:
        """Return the file of every row that is used."""
        used = np.concatenate([*self._rows.values()]).tolist()
        with ThreadPoolExecutor() as pool:
            sizes = list(pool.map(lambda row: _size(self.root / paths[row]), used, chunksize=1024))
        if lost := [paths[row] for row, size in zip(used, sizes, strict=True) if size is None]:
            raise FileNotFoundError(
                f"{len(lost)} of {len(used)} images of {self.path} are not in {self.root}:"
                f"{listed(sorted(lost))}\nCopy them there, take them out of the table, or say with "
                "data.root=DIR where their paths start"
            )
        files = zip(used, sizes, strict=True)
        return {row: ImageFile(paths[row], size or 0, int(labels[row])) for row, size in files}


def _size(path: Path) -> int | None:
    """Return the size of a file; `None` where no file is or can be, such as below another file."""
    try:
        return os.stat(path).st_size
    except ValueError:  # it has a NUL
        return None
    except OSError as error:
        if error.errno not in NO_SUCH_FILE:
            raise
        return None


def _paths(column: Column, where: Path) -> list[str]:
    if empty := (np.flatnonzero(column.codes < 0) + 1).tolist():
        raise ValueError(
            f"{len(empty)} rows of {where} have no image:{listed([f'row {row}' for row in empty])}"
        )
    return [column.values[code] for code in column.codes]


def _rows(n: int, column: Column | None, names: Mapping[str, Any] | None, where: Path) -> dict[Split, Rows]:
    """Return the rows of each split that the table has; all are `train` without a column."""
    if column is None:
        return {"train": np.arange(n)}
    found = split_names(names, column.values, str(where))
    counts = np.bincount(column.codes[column.codes >= 0])
    counted = zip(column.values, counts, strict=True)
    lines = [f"{value!r}, {count} rows" for value, count in counted if value not in found.values()]
    lines += [f"none, {empty} rows"] if (empty := int((column.codes < 0).sum())) else []
    if names is None and lines:
        raise ValueError(
            f"{where} has rows in splits that are none of train, val and test:{listed(lines)}\nSay which are "
            "meant with 'data.split_names={train: NAME, val: NAME, test: NAME}', the others are left out then"
        )
    return {split: np.flatnonzero(column.codes == column.values.index(name)) for split, name in found.items()}


def table(
    path: str,
    root: str | None = None,
    image: str = "image",
    label: str | None = "label",
    split: str | None = "split",
    groups: Sequence[str] = (),
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    files: str | None = None,
    together: str | None = None,
    caption: str | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """Return the datamodule of `ImageTable`; `activations` are the arguments of `ActivationDataModule`."""
    names = Names(image, label, groups, given_classes(classes))
    held_out = (val_fraction, test_fraction, split_seed)
    images = ImageTable(path, root, names, split, split_names, *held_out, files, together, caption)
    return ActivationDataModule(images, **activations)
