"""Hugging Face data sets as images."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.class_names import merged
from lightning_sae.data.images.copies import keep_copies_together
from lightning_sae.data.images.image_set import Split, digest
from lightning_sae.data.sources.columns import (
    Column,
    Names,
    check_columns,
    class_names,
    known_classes,
    split_names,
)
from lightning_sae.data.sources.given_classes import Classes, check_given, given_classes
from lightning_sae.data.sources.huggingface.files import open_data_set
from lightning_sae.data.sources.huggingface.rows import (
    HubSplit,
    HuggingFaceSplit,
    PictureColumn,
    Rows,
    column_of,
    undecoded,
)
from lightning_sae.data.sources.huggingface.stream import RowStream, index_stream
from lightning_sae.data.sources.splits import check_fractions, stratified_split


class HuggingFaceImages:
    """Images of a Hugging Face data set: the Hub, parquet, Arrow, tar or image files; read whole or streamed.

    A split that it lacks is taken from the train rows by class, in the order of a hash of seed and row.
    Nothing is executed or unpickled: only the readers in `hub.SAFE` are used.

    Args:
        path: what to open (`open_data_set`).
        names: of the columns; classes are those of a `ClassLabel`, or the sorted values.
        caption: column of captions; those of `val` and `test` are labels worth trying.
        config: configuration, on the Hub.
        revision: branch, tag or commit, on the Hub.
        streaming: read the files while capturing, after one pass that counts the rows and reads their labels.
        names_of_splits: what the splits are called there; `None` knows train, val, validation, test and such.
        val_fraction: share of each class that becomes `val` where there is none, in [0, 1).
        test_fraction: share of each class that becomes `test`, the same.
        seed: another seed holds out other rows.
        cache_dir: where the index of a stream is kept; the user's cache folder by default.

    Raises:
        FileNotFoundError: no such data.
        ValueError: columns, classes or splits that are not there; files that hold no images.
        ModuleNotFoundError: the package `datasets` is not installed.
    """

    def __init__(
        self,
        path: str | Mapping[str, Any],
        names: Names | None = None,
        caption: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        streaming: bool = False,
        names_of_splits: Mapping[str, Any] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        cache_dir: str | Path | None = None,
    ) -> None:
        self._fractions, self._seed = check_fractions(val_fraction, test_fraction), seed
        self._names, self._caption = names or Names(), caption
        self._cache = Path(cache_dir or platformdirs.user_cache_path("lightning_sae")).expanduser()
        self._opened = open_data_set(path, config, revision, streaming)
        self._own = split_names(names_of_splits, list(self._opened.splits), self._opened.name)
        self._parts: dict[str, HubSplit] = {}

    def split(self, name: Split) -> HuggingFaceSplit:
        """Return the images of one split."""
        part = self._part(self._own.get(name, self._own["train"]))
        whole = name in self._own and name != "train"
        rows = np.arange(len(part.labels)) if whole else self._dealt[name]
        if not len(rows):
            raise ValueError(
                f"the {name} split of {self._opened.name} is empty: raise data.{name}_fraction, or name one "
                "with data.split_names"
            )
        factors = {group: part.columns[group].factor() for group in self._names.groups}
        chosen = {group: (values, truth[rows]) for group, (values, truth) in factors.items()}
        captions = part.columns[self._caption].texts(rows) if self._caption and name != "train" else ()
        return HuggingFaceSplit(part, rows, f"{self._opened.name}-{name}", chosen, captions)

    @cached_property
    def _dealt(self) -> dict[Split, Rows]:
        """Return the rows of `train`, and of the splits that are taken from it."""
        missing = {split: share for split, share in self._fractions.items() if split not in self._own}
        part = self._part(self._own["train"])
        everything = np.arange(len(part.labels))
        if not missing:
            return {"train": everything}
        dealt = stratified_split(everything, part.labels, missing, self._seed)
        return keep_copies_together(dealt, HuggingFaceSplit(part, everything, "train", {}, ()))

    def _part(self, own: str) -> HubSplit:
        if own not in self._parts:
            self._parts[own] = self._read(own)
        return self._parts[own]

    def _read(self, own: str) -> HubSplit:
        data, where = self._opened.splits[own], f"the {own} split of {self._opened.name}"
        kept = [*self._names.known, *([self._caption] if self._caption else [])]
        check_columns([self._names.image, *kept], list(data.features), where)
        known = {"files": digest(self._opened.files[own]), "image": self._names.image}
        pictures, table = self._open(own, undecoded(data, self._names.image, where), kept, digest(known))
        columns = {name: column_of(table[name], data.features[name], f"{where}, {name!r}") for name in kept}
        labels, classes = self._label(own, columns, data.features, len(pictures))
        return HubSplit(pictures, columns, labels, classes, known)

    def _open(self, own: str, data: Any, kept: Sequence[str], key: str) -> tuple[Any, Any]:
        """Return the pictures by row, and a table of the kept columns."""
        if self._opened.narrow is None:
            table = data.select_columns(list(kept)).with_format("arrow")[:] if kept else {}
            return PictureColumn(data, self._names.image), table
        folder = self._cache / "indexes" / f"{self._opened.name}-{own}-{digest([key, *kept])[:12]}"
        undecoded_alone = partial(data.select_columns, [self._names.image])  # to count the rows
        narrow = partial(self._opened.narrow, own, kept) if kept else undecoded_alone
        table, counts = index_stream(folder, narrow, kept, f"{self._opened.name} {own}")
        return RowStream(data, self._names.image, counts), table

    def _label(
        self, own: str, columns: Mapping[str, Column], features: Mapping[str, Any], n: int
    ) -> tuple[Rows, list[str]]:
        """Return the class of each row, and the names of the classes."""
        label, given, train = self._names.label, self._names.classes, self._own["train"]
        if label is None:
            return np.full(n, -1, dtype=np.int64), class_names(None, given)
        column, where = columns[label], f"the {own} split of {self._opened.name}"
        if names := getattr(features[label], "names", None):  # of a ClassLabel, in their order
            if given and not isinstance(given, Mapping):
                if len(given) != len(names):
                    raise ValueError(f"data.classes must name the {len(names)} of {label}, got {len(given)}")
                return column.codes, class_names(None, given)
            codes = known_classes(given, column)
            check_given(names, f"{where}, {label!r}")
            classes = class_names(None, codes) if codes else merged(names)
            return column.indices(classes, codes, where), classes
        column = column.as_labels(f"{where}, {label!r}", given)
        known = column if given or own == train else self._part(train).columns[label].as_labels(train)
        codes = known_classes(given, known)
        classes = class_names(known, codes)
        return column.indices(classes, codes, where), classes


def huggingface(
    path: str | Mapping[str, Any],
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    image: str = "image",
    label: str | None = "label",
    groups: Sequence[str] = (),
    caption: str | None = None,
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    store_dir: str | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """Return the datamodule of `HuggingFaceImages`.

    `activations` are the arguments of `ActivationDataModule`.
    """
    images = HuggingFaceImages(
        path,
        Names(image, label, groups, given_classes(classes)),
        caption,
        config,
        revision,
        streaming,
        split_names,
        val_fraction,
        test_fraction,
        split_seed,
        cache_dir=store_dir,
    )
    return ActivationDataModule(images, store_dir=store_dir, **activations)
