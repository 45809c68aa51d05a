"""Rows of Hugging Face data sets as images and columns."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_sae.data.images.bad_images import read_file
from lightning_sae.data.images.contents import content_hash
from lightning_sae.data.images.decoding import PIXELS, BadImageError, decode
from lightning_sae.data.images.image_set import Factors, LabelledImages, digest
from lightning_sae.data.sources.columns import Column
from lightning_sae.data.sources.huggingface.files import import_datasets

Rows = NDArray[np.int64]
AHEAD = 1024  # rows looked at together
EDGE = 4096  # bytes of either end of a picture that tell it from others of its size
SERVERS = ("hf", "http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss")
ARCHIVES = ("zip", "tar", "gzip", "bz2", "xz", "zstd")


class HubSplit(NamedTuple):
    """One of a data set's own splits.

    Attributes:
        pictures: what stands in the image column, by row.
        columns: the other columns that matter.
        labels: `[n_rows]`, class of each row, -1 for none.
        class_names: names of the classes.
        known: what identifies these rows.
    """

    pictures: Any
    columns: Mapping[str, Column]
    labels: Rows
    class_names: list[str]
    known: dict[str, Any]


class HuggingFaceSplit(LabelledImages):
    """Some rows of a data set, read on demand.

    Args:
        part: where they stand.
        rows: `[n]`, the row of each image.
        name: names the data set and the split.
        factors: what is known of them beside the class.
        captions: of the images, also labels worth trying; none are known where it is empty.
    """

    def __init__(
        self, part: HubSplit, rows: Rows, name: str, factors: Factors, captions: Sequence[str]
    ) -> None:
        super().__init__(part.class_names, torch.from_numpy(part.labels[rows]), factors, captions)
        self.part, self.rows, self.name = part, rows, name

    def __getitem__(self, index: int) -> Image.Image:
        """Return the image in RGB.

        Raises:
            BadImageError: it cannot be decoded; names the row.
            OSError: it cannot be read at all, which is not the image's fault.
        """
        return decode(*self.encoded(index))

    def encoded(self, index: int) -> tuple[bytes | None, str]:
        """Return the file of an image, if there is one, and what the row is called."""
        row = int(self.rows[index])
        content, path = _content(self.part.pictures[row])
        return content, f"row {row}" + (f" ({Path(path).name})" if path else "")

    def contents(self) -> list[str] | None:
        """Return a hash of each picture's file; `None` for a stream, which would have to be read for it."""
        known = self.part.pictures.contents
        return None if known is None else [known[row] for row in self.rows.tolist()]

    def identity(self) -> dict[str, Any]:
        """Return the files, rows and classes, but not where they lie."""
        own = {"classes": digest(self.class_names), "images": len(self), "rows": self._digest}
        return {"name": self.name, **self.part.known, **own, "pixels": PIXELS}

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.rows.tobytes() + self.targets.numpy().tobytes()).hexdigest()


def _content(picture: Any) -> tuple[bytes | None, str | None]:
    """Return the bytes and path of what stands in an image column; a path without bytes is read."""
    if not isinstance(picture, dict):
        return picture, None
    content, path = picture.get("bytes"), picture.get("path")
    return _read(path) if content is None and path else content, path


def _read(address: str) -> bytes:
    """Return the file at a path or address, such as `zip://cat.png::hf://datasets/pets/cats.zip`.

    Raises:
        BadImageError: it, or the archive that has it, is no file, is damaged, or lies on no known server.
        OSError: it cannot be read at all, which is not the image's fault.
    """
    address = address.removeprefix("file://")
    name = Path(address).name
    if "://" not in address:
        return read_file(Path(address), name)
    for scheme, _, place in (link.rpartition("://") for link in address.split("::")):
        if scheme not in (*SERVERS, *ARCHIVES) and not (scheme in ("", "file") and Path(place).is_file()):
            raise BadImageError(f"{name}: {address} is neither a file nor on one of {', '.join(SERVERS)}")
    import fsspec

    try:
        with fsspec.open(address, "rb") as file:
            content: bytes = file.read()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # every kind of archive and server has errors of its own
        raise BadImageError(f"{name}: {address} cannot be read ({error})") from error
    return content


class PictureColumn:
    """One column of a map-style data set, by row."""

    def __init__(self, data: Any, column: str) -> None:
        self.data, self.column = data.select_columns([column]), column

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self.data[row][self.column]

    @cached_property
    def contents(self) -> list[str]:
        """A hash of each row's size and both ends, where they lie in the mapped file; "" for no picture."""
        tables = self.data.with_format("arrow").iter(AHEAD)
        return [_hash(picture) for table in tables for picture in table[self.column]]


def _hash(picture: Any) -> str:
    """Return the hash of an Arrow scalar, bytes or `{"bytes", "path"}`, without a copy of all of them."""
    content, path = (
        (picture["bytes"], picture["path"].as_py()) if hasattr(picture, "keys") else (picture, None)
    )
    if content.is_valid:
        view = memoryview(content.as_buffer())
        found = hashlib.sha256(f"{len(view)} ".encode())
        found.update(view[:EDGE])
        found.update(view[-EDGE:])
        return found.hexdigest()
    return content_hash(path) if path and "://" not in path else ""


def undecoded(data: Any, column: str, where: str) -> Any:
    """Return the data with the bytes of the pictures instead of the pictures, which are decoded here."""
    datasets, feature = import_datasets(), data.features[column]
    if isinstance(feature, datasets.Image):
        return data.cast_column(column, datasets.Image(decode=False))
    if feature != datasets.Value("binary"):
        pictures = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
        raise ValueError(
            f"{column!r} of {where} holds {feature}, not images; these do: {', '.join(pictures) or 'none'}. "
            "Name one with data.image"
        )
    return data


def column_of(content: Any, feature: Any, where: str) -> Column:
    """Return a column of an Arrow table; a `ClassLabel` keeps the order of its names."""
    if names := getattr(feature, "names", None):
        codes = content.to_pandas(types_mapper=pd.ArrowDtype).fillna(-1)
        return Column(list(names), codes.to_numpy(dtype=np.int64))
    return Column.of(content.to_pandas(types_mapper=pd.ArrowDtype), where, first_row=0)
