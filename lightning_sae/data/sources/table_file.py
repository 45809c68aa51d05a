"""Reading tables as they are saved: any case of ending, compressed, with or without a byte order mark."""

import codecs
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lightning_sae.data.images.image_set import listed
from lightning_sae.data.sources.columns import check_columns
from lightning_sae.trust.tables import read_csv

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # as spreadsheets save "Unicode text"


def read_table(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """Return some columns of a table; a CSV's values as text.

    Args:
        path: `.csv`, `.tsv` or `.tab`, also with `.gz` behind it, or `.parquet`, in any case.
        wanted: the columns.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, no rows, columns that are not there, lines with too many values, or text
            that is neither UTF-8 nor UTF-16; names file, row and column.
        ModuleNotFoundError: a parquet file, and pyarrow is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table {path}: data.path must be a .csv, .tsv or .parquet file")
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    packed = endings[-1:] == [".gz"]
    kind = "".join(endings[-2:-1] if packed else endings[-1:])
    if kind == ".parquet" and not packed:
        frame = _read_parquet(path, wanted)
    elif kind in SEPARATORS:
        frame = _read_text(path, _unpacked(path) if packed else path.read_bytes(), SEPARATORS[kind])
        check_columns(wanted, list(frame.columns), str(path))
    else:
        raise ValueError(f"data.path must be a .csv, .tsv or .parquet file, texts also with .gz; got {path}")
    if not len(frame):
        raise ValueError(f"{path} has no rows")
    return frame


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error


def _read_text(path: Path, content: bytes, separator: str) -> pd.DataFrame:
    encoding = next((name for bom, name in BOMS.items() if content.startswith(bom)), "utf-8-sig")
    try:
        return read_csv(path, separator, content.decode(encoding))
    except UnicodeDecodeError as error:
        lines = _not_utf8(read_csv(path, separator, content.decode("latin-1")))
        raise ValueError(
            f"{path} is not UTF-8:{listed(lines or [str(error)])}\nSave it as UTF-8 (in a spreadsheet: "
            "CSV UTF-8), or convert it: iconv -f LATIN1 -t UTF-8"
        ) from error


def _not_utf8(frame: pd.DataFrame) -> list[str]:
    """Return the row and column of each cell of a table, read as Latin-1, whose bytes are not UTF-8."""

    def is_utf8(cell: str) -> bool:
        try:
            cell.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    heads = [
        f"the name of column {i}: {name!r}" for i, name in enumerate(frame.columns, 1) if not is_utf8(name)
    ]
    cells = [
        f"row {row}, column {name!r}: {cell!r}, if it is Latin-1"
        for name in frame.columns
        for row, cell in enumerate(frame[name], 1)
        if not is_utf8(cell)
    ]
    return heads + cells


def _read_parquet(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} is read by the package pyarrow, which is not installed: pip install -e '.[datasets]', "
            "or save the table as CSV"
        ) from error
    with path.open("rb") as file:
        try:
            check_columns(wanted, parquet.read_schema(file).names, str(path))
            return pd.read_parquet(file, columns=list(wanted), dtype_backend="numpy_nullable")
        except (ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
