"""Tables and pictures: into the run folder, and from there to the trackers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.concepts.naming import with_names
from lightning_sae.files import write_atomic
from lightning_sae.tracking.tracker import Tracker, capped
from lightning_sae.trust.tables import csv_bytes, read_table

CURVES = "metrics.csv"
"""The one table of the run folder that trackers have as curves."""


def run_dir(trainer: Trainer) -> Path:
    """Return the run folder, where everything that a tracker shows also lies."""
    return Path(trainer.default_root_dir)


@rank_zero_only
def publish_table(trainer: Trainer, key: str, table: pd.DataFrame) -> None:
    """Write a table to `<key>.csv` in the run folder, from where trackers get it (`publish_tables`).

    Args:
        trainer: its `default_root_dir` is the run folder.
        key: name of the file, and of the table in the tracker.
        table: the whole table, the most telling rows first.
    """
    write_atomic(run_dir(trainer) / f"{key}.csv", csv_bytes(table))


@rank_zero_only
def publish_tables(trainer: Trainer) -> None:
    """Show the tables of the run folder to the trackers, each with as many rows as a tracker shows.

    Labels are shown as names (`lightning_sae.concepts.naming`); the files have them as they are.
    """
    shown = list(trackers(trainer))
    for path in sorted(run_dir(trainer).glob("*.csv")) if shown else ():
        if path.name != CURVES:
            table = with_names(read_table(path))
            for tracker in shown:
                part = capped(table, tracker.max_rows, path)
                tracker.show_table(f"tables/{path.stem}", part, trainer.global_step)


@rank_zero_only
def publish_illustrated(
    trainer: Trainer, key: str, table: pd.DataFrame, picture: Callable[["pd.Series[Any]"], Image.Image]
) -> None:
    """Show a table to the trackers, each row with a picture; write no file.

    Args:
        trainer: whose loggers are asked.
        key: name in the tracker.
        table: rows that are not many, the most telling ones first.
        picture: draws the picture of a row; not called if no tracker can show it.
    """
    shown = [tracker for tracker in trackers(trainer) if "tables with pictures" not in tracker.lacks]
    pictures = [picture(row) for _, row in table.iterrows()] if shown else []
    for tracker in shown:
        tracker.show_illustrated(f"tables/{key}", with_names(table), pictures, trainer.global_step)


@rank_zero_only
def publish_picture(trainer: Trainer, key: str, path: Path) -> None:
    """Show a picture of the run folder to the trackers.

    Args:
        trainer: whose loggers are asked.
        key: name in the tracker.
        path: the picture, already written.
    """
    for tracker in trackers(trainer):
        tracker.show_picture(key, path, trainer.global_step)


@rank_zero_only
def publish_pages(trainer: Trainer) -> None:
    """Show the HTML pages of the run folder to the trackers."""
    for path in sorted(run_dir(trainer).glob("*.html")):
        for tracker in trackers(trainer):
            tracker.show_page(f"pages/{path.stem}", path, trainer.global_step)


@rank_zero_only
def publish_files(trainer: Trainer, name: str, files: Mapping[str, Path], aliases: Sequence[str]) -> None:
    """Have the trackers keep files of the run folder.

    Args:
        trainer: whose loggers are asked.
        name: of the artifact.
        files: path in the run folder -> file.
        aliases: `last`, `best`: of which pass it is.
    """
    for tracker in trackers(trainer):
        tracker.keep_files(name, files, aliases)


def trackers(trainer: Trainer) -> Iterator[Tracker]:
    """Yield the loggers that can be shown more than curves."""
    return (logger for logger in trainer.loggers if isinstance(logger, Tracker))
