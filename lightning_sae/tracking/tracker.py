"""What a tracker can be shown beside curves, and how much of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import Logger
from PIL import Image

from lightning_sae.tracking.csv_logger import RunCSVLogger

MAX_ROWS = 1000
"""Rows of a table that a tracker is shown; the file in the run folder has all of them."""


class Tracker:
    """A part of a logger that is shown more than curves: it overrides a method for each kind it can show.

    Attributes:
        max_rows: rows of a table that are shown (`capped`).
    """

    max_rows: int = MAX_ROWS
    _row: int | None = None  # the step of the last row

    def once(self, metrics: Mapping[str, Any], step: int | None) -> dict[str, Any]:
        """Return a row, without the epoch that Lightning adds to each if the last row was of the same step.

        Example:
            >>> tracker = Tracker()
            >>> tracker.once({"train/loss": 0.5, "epoch": 0}, 3)
            {'train/loss': 0.5, 'epoch': 0}
            >>> tracker.once({"val/fvu": 0.25, "epoch": 0}, 3)
            {'val/fvu': 0.25}
        """
        said, self._row = step is not None and step == self._row, step
        return {key: value for key, value in metrics.items() if not (said and key == "epoch")}

    @property
    def lacks(self) -> list[str]:
        """Kinds that it cannot show, in words.

        Example:
            >>> Tracker().lacks
            ['tables', 'pictures', 'tables with pictures', 'pages', 'files']
        """
        return [kind for kind, method in _KINDS.items() if getattr(type(self), method.__name__) is method]

    def show_table(self, key: str, table: pd.DataFrame, step: int) -> None:
        """Show a table, in the place of the one before.

        Args:
            key: name in the tracker.
            table: capped, latents by their names.
            step: optimiser steps so far.
        """

    def show_picture(self, key: str, path: Path, step: int) -> None:
        """Show the picture in a file."""

    def show_illustrated(
        self, key: str, table: pd.DataFrame, pictures: Sequence[Image.Image], step: int
    ) -> None:
        """Show a table with a picture for each row."""

    def show_page(self, key: str, path: Path, step: int) -> None:
        """Show the HTML page in a file."""

    def keep_files(self, name: str, files: Mapping[str, Path], aliases: Sequence[str]) -> None:
        """Keep files as an artifact.

        Args:
            name: of the artifact.
            files: path in the run folder -> file.
            aliases: `last`, `best`: of which pass it is.
        """


_KINDS = {
    "tables": Tracker.show_table,
    "pictures": Tracker.show_picture,
    "tables with pictures": Tracker.show_illustrated,
    "pages": Tracker.show_page,
    "files": Tracker.keep_files,
}


def cannot_show(logger: Logger) -> list[str]:
    """Return the kinds that a logger cannot show, in words.

    A logger that is no `Tracker` shows curves alone. The logger of `metrics.csv` lacks nothing, as everything
    else lies beside that file.
    """
    if isinstance(logger, RunCSVLogger):
        return []
    return (logger if isinstance(logger, Tracker) else Tracker()).lacks


def illustrated(table: pd.DataFrame, pictures: Sequence[Any]) -> pd.DataFrame:
    """Return a table with a column `images` behind its first.

    Example:
        >>> list(illustrated(pd.DataFrame({"name": ["star"], "density": [0.5]}), ["a.png"]))
        ['name', 'images', 'density']
    """
    shown = table.copy()
    shown.insert(1, "images", pd.Series(pictures, index=table.index, dtype=object))
    return shown


def capped(table: pd.DataFrame, rows: int, path: Path) -> pd.DataFrame:
    """Return the first rows of a table, and a last one that says how many were left out.

    Args:
        table: the most telling rows first.
        rows: at most, beside the last one.
        path: where the whole table lies.

    Example:
        >>> table = pd.DataFrame({"latent": [5, 3, 8], "density": [0.5, 0.25, 0.1]})
        >>> capped(table, 1, Path("latents.csv")).to_dict("list")
        {'latent': ['5', '2 more rows in latents.csv'], 'density': [0.5, None]}
    """
    if len(table) <= rows:
        return table
    shown = table.head(rows).astype(object)
    first = table.columns[0]
    shown[first] = [str(cell) for cell in shown[first]]
    note = [f"{len(table) - rows:,} more rows in {path}", *[None] * (len(table.columns) - 1)]
    cells = [*shown.itertuples(index=False, name=None), note]
    return pd.DataFrame(cells, columns=table.columns, dtype=object)
