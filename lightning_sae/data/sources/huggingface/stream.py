"""Rows of a streaming data set by their number, after one pass that counts them."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from lightning_sae.data.sources.huggingface.files import damage_named
from lightning_sae.files import write_atomic
from lightning_sae.progress import track

AHEAD = 16  # rows converted at a time


class RowStream:
    """One column of a streaming data set, by row.

    The row after the last one is read by going on; any other row opens the file that has it and skips the
    rows before it. So reading in order costs one pass, and reading a row at random costs up to a file.

    Args:
        stream: a `datasets.IterableDataset`.
        column: what is read.
        counts: rows of each of its files.
    """

    def __init__(self, stream: Any, column: str, counts: Sequence[int]) -> None:
        self.stream, self.column = stream.select_columns([column]), column
        self.starts = np.cumsum([0, *counts])
        self._rows: Iterator[Any] = iter(())
        self._next, self._stop, self._process = 0, 0, os.getpid()
        self.contents: None = None  # all files would have to be read to tell

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> Any:
        if not self._next <= row < self._stop or self._process != os.getpid():
            self._open(row)  # also after a fork: two processes cannot read from one open file
        skipped, self._next = row - self._next, row + 1
        for value in islice(self._rows, skipped, None):
            return value
        raise ValueError(
            f"the data set ends before row {row}, which it had when it was indexed: was it changed?"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": iter(()), "_next": 0, "_stop": 0}

    def _open(self, row: int) -> None:
        import fsspec.asyn

        file = int(np.searchsorted(self.starts, row, "right")) - 1
        self._next, self._stop = (int(start) for start in self.starts[file : file + 2])
        if self._process != os.getpid():
            fsspec.asyn.reset_lock()  # connections and their locks do not outlive a fork
            self._process = os.getpid()
        self._rows = (value[self.column] for value in rows_of_file(self.stream, file))


def rows_of_file(stream: Any, file: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file of a streaming data set.

    Raises:
        ValueError: the file is damaged.
    """
    part = stream.shard(num_shards=stream.num_shards, index=file)
    with damage_named(f"file {file + 1} of the {stream.num_shards} of the data set"):
        for batch in part.iter(AHEAD):  # unlike a plain loop it gives all rows also in a DataLoader's worker
            yield from (dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True))


def index_stream(folder: Path, stream: Callable[[], Any], columns: Sequence[str], title: str) -> Any:
    """Return the small columns of a stream, kept as a parquet file for each file of the stream.

    A run that was killed goes on where it was.

    Args:
        folder: where the index is kept.
        stream: opens the data set.
        columns: to be kept; may be none, to count rows.
        title: for the progress bar.

    Returns:
        `(table, counts)`: a `pyarrow.Table`, and the rows of each file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    paths = _paths(folder)
    if not paths:
        with FileLock(folder / ".lock"):
            if not _paths(folder):
                _write_index(folder, stream(), columns, title)
        paths = _paths(folder)
    tables = [parquet.read_table(path) for path in paths]
    return pa.concat_tables(tables, promote_options="permissive"), [len(table) for table in tables]


def _paths(folder: Path) -> list[Path]:
    """Return the files of a whole index; none if it is not whole."""
    done = folder / "files"
    return [folder / f"{file:06d}.parquet" for file in range(int(done.read_bytes()))] if done.exists() else []


def _write_index(folder: Path, stream: Any, columns: Sequence[str], title: str) -> None:
    for file in track(range(stream.num_shards), f"indexing {title}", unit="files"):
        path = folder / f"{file:06d}.parquet"
        if not path.exists():
            write_atomic(path, _index_of_file(stream, file, columns))
    write_atomic(folder / "files", str(stream.num_shards).encode())


def _index_of_file(stream: Any, file: int, columns: Sequence[str]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    kept: dict[str, list[Any]] = {"row": [], **{name: [] for name in columns}}
    for number, row in enumerate(rows_of_file(stream, file)):
        kept["row"].append(number)
        for name in columns:
            kept[name].append(row[name])
    buffer = io.BytesIO()
    parquet.write_table(pa.table(kept), buffer)
    return buffer.getvalue()
