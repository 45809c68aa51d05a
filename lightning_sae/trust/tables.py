"""CSV files of users, with their faults named, and of runs, which read back unchanged and run nothing."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_sae.trust.control_characters import INVISIBLE
from lightning_sae.trust.documents import read_bytes, read_text

_RUN = re.compile(rf"'*([\t\r\n]|(\s|{INVISIBLE.pattern})*[=+\-@＝＋－＠])")
"""Pattern of texts that a spreadsheet may run or take apart; one more quote before makes them plain."""


def csv_bytes(table: pd.DataFrame, index: bool = False) -> bytes:
    """Return a table as CSV, UTF-8, with six significant digits.

    A spreadsheet would run a text that begins with `=`, `+`, `-`, `@` of any width, also behind invisible
    characters, or with a tab or a line break. Such a text gets a single quote before it, as spreadsheets
    themselves mark texts; `read_table` takes the quote away again.

    Args:
        table: the table; each row becomes a line.
        index: whether the index is the first column.

    Example:
        >>> csv_bytes(pd.DataFrame({"label": ["=1+1", "a-b"], "x": [-0.5, 1.0]})).decode().split()
        ['label,x', "'=1+1,-0.5", 'a-b,1']
    """
    safe = table.apply(lambda column: column.map(_guarded, na_action="ignore"))
    safe = safe.rename(columns=_guarded, index=_guarded if index else None)
    form: dict[str, Any] = {"index": index, "float_format": "%.6g", "lineterminator": "\n"}
    text: str = safe.to_csv(**form)
    if "\r" in text:  # a line end to readers, and none to Python's writer
        text = safe.to_csv(**form, quoting=csv.QUOTE_ALL)
    return text.encode()


def read_table(path: str | Path, needed: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Read what `csv_bytes` wrote.

    Args:
        path: the file.
        needed: columns that the table must have.
        options: options of `pandas.read_csv`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or lacks a column, which the message names.
    """
    table = _parsed(path, io.BytesIO(read_bytes(path)), **options)
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; write or copy it again")
    for place, kind in enumerate(table.dtypes):
        if pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind):
            table.isetitem(place, table.iloc[:, place].map(_unguarded, na_action="ignore").array)
    return table.rename(columns=_unguarded)


def read_csv(path: str | Path, separator: str = ",", text: str | None = None) -> pd.DataFrame:
    """Return a CSV file of a user, with every cell as a text, "" for an empty cell.

    Args:
        path: the file.
        separator: separator of the cells.
        text: content of the file; `None` reads the file as UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, not UTF-8, has a column twice, or a row that is shorter or longer than the
            first; the message names the line.
    """
    text = read_text(path) if text is None else text
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        head = next(reader, [])
        for name, count in Counter(head).most_common(1):
            if count > 1:
                raise _fault(path, 1, f"the column {name!r} stands there twice")
        for row in reader:
            if row and len(row) != len(head):
                raise _fault(path, reader.line_num, f"{len(row)} cells, and the first line has {len(head)}")
    except csv.Error as error:
        raise _fault(path, reader.line_num, str(error)) from error
    return _parsed(path, io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)


def _parsed(path: str | Path, source: io.BytesIO | io.StringIO, **options: Any) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(source, **options)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty: its first line names the columns") from error
    except UnicodeDecodeError:
        read_text(path)  # names the line
        raise
    except ValueError as error:
        raise ValueError(f"{path} is no table that can be read: {str(error).strip()}") from error
    return table


def _fault(path: str | Path, line: int, what: str) -> ValueError:
    return ValueError(f"{path}, line {line}: {what}; mend the table, or copy it again")


def _guarded(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _RUN.match(cell) else cell


def _unguarded(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and _RUN.match(cell) else cell
