"""Numbers beside those of baselines, for people: a table on the terminal, cells of a page, a few words."""

from typing import NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

from lightning_sae.baselines.comparison import COLUMNS, BaselineTable
from lightning_sae.tracking.values import VALUES, shown_value
from lightning_sae.trust.control_characters import escape, visible

TITLE = "Beside what learned nothing"
SILENT = "≈"
LEGEND = f"{SILENT} does not tell: not surely better than where nothing was learned"


class BaselineCell(NamedTuple):
    """A baseline's number as it is shown, and whether it fails to tell the trained dictionary from it."""

    text: str
    silent: bool


class BaselineRow(NamedTuple):
    """A number as it is shown: its title, its value for the trained dictionary, and one for each baseline."""

    title: str
    trained: str
    cells: list[BaselineCell]


def read_baselines(table: pd.DataFrame) -> BaselineTable:
    """Return the table of a `baselines.csv` as it was read; a run without the file has no rows.

    Raises:
        ValueError: a column is missing, or holds something else than numbers.

    Example:
        >>> read_baselines(pd.DataFrame()).names
        []
    """
    if len(table):
        if missing := [column for column in COLUMNS if column not in table]:
            raise ValueError(f"baselines.csv has no column {', '.join(missing)}")
        for column in ("trained", "baseline_value"):
            if not pd.api.types.is_numeric_dtype(table[column]):
                raise ValueError(f"the column {column} of baselines.csv holds other things than numbers")
        table = table.astype({"key": str, "baseline": str})
    return BaselineTable(table.reindex(columns=COLUMNS))


def shown_rows(table: BaselineTable) -> list[BaselineRow]:
    """Return the important numbers that have an interval, in the order of `VALUES`."""
    judged = set(table.frame.loc[table.frame["tells"].notna(), "key"])
    return [_row(table, key) for key, value in VALUES.items() if key in judged and value.title]


def _row(table: BaselineTable, key: str) -> BaselineRow:
    values, silent = table.values(key), table.silent(key)
    trained = table.frame.loc[table.frame["key"] == key, "trained"].iloc[0]
    cells = [
        BaselineCell(shown_value(key, values[name]) if name in values else "", name in silent)
        for name in table.names
    ]
    return BaselineRow(VALUES[key].title, shown_value(key, float(trained)), cells)


def terminal(table: BaselineTable) -> Table | None:
    """Return the table for the terminal; `None` where there is nothing to show."""
    rows = shown_rows(table)
    if not rows:
        return None
    shown = Table("", title=TITLE, caption=LEGEND, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("trained", *table.names):
        shown.add_column(escape(name), justify="right", overflow="fold")
    for row in rows:
        shown.add_row(row.title, row.trained, *map(_marked, row.cells))
    return shown


def _marked(cell: BaselineCell) -> str:
    return f"[yellow]{cell.text} {SILENT}[/yellow]" if cell.silent else f"{cell.text}  " if cell.text else ""


def words(table: BaselineTable, key: str) -> str:
    """Return the baselines' values of a number in words; "" where there are none.

    Example:
        >>> row = ["alignment/mean", "untrained", 0.3, 0.25, 0.05, -0.1, 0.2, False]
        >>> words(BaselineTable(pd.DataFrame([row], columns=COLUMNS)), "alignment/mean")
        'untrained 0.250: does not tell'
    """
    values, silent = table.values(key), table.silent(key)
    said = ", ".join(f"{visible(name)} {shown_value(key, value)}" for name, value in values.items())
    return f"{said}: does not tell" if silent else said
