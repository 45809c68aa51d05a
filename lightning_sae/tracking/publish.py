"""Tables and pictures: into the run folder, and from there to the trackers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.concepts.naming import with_names
from lightning_sae.files import write_atomic
from lightning_sae.trust.tables import csv_bytes

MAX_TRACKER_ROWS = 100
"""Rows of a table that a tracker is shown; the file in the run folder has all of them."""


def run_dir(trainer: Trainer) -> Path:
    """Return the run folder, where everything that a tracker shows also lies."""
    return Path(trainer.default_root_dir)


@rank_zero_only
def publish_table(trainer: Trainer, key: str, table: pd.DataFrame) -> None:
    """Write a table to `<key>.csv` in the run folder and show its first `MAX_TRACKER_ROWS` rows to W&B.

    Labels are shown as names (`lightning_sae.concepts.naming`); the file has them as they are.

    Args:
        trainer: its `default_root_dir` is the run folder.
        key: name of the file, and of the table in the tracker.
        table: the whole table, the most telling rows first.
    """
    path = run_dir(trainer) / f"{key}.csv"
    write_atomic(path, csv_bytes(table))
    for logger in _wandb_loggers(trainer):
        logger.log_table(f"tables/{key}", dataframe=with_names(table.head(MAX_TRACKER_ROWS)))


@rank_zero_only
def publish_illustrated(
    trainer: Trainer, key: str, table: pd.DataFrame, picture: Callable[["pd.Series[Any]"], Image.Image]
) -> None:
    """Show the first `MAX_TRACKER_ROWS` rows of a table to W&B, each with a picture; write no file.

    Args:
        trainer: whose loggers are asked.
        key: name in the tracker.
        table: the most telling rows first.
        picture: draws that of a row; not called where no tracker can show it.
    """
    for logger in _wandb_loggers(trainer):
        import wandb  # slow, and not wanted by a run without it

        rows = table.head(MAX_TRACKER_ROWS)
        pictures = [wandb.Image(picture(row)) for _, row in rows.iterrows()]
        images = pd.Series(pictures, index=rows.index, dtype=object)
        logger.log_table(f"tables/{key}", dataframe=with_names(rows).assign(images=images))


@rank_zero_only
def publish_picture(trainer: Trainer, key: str, path: Path) -> None:
    """Show a picture of the run folder to W&B and TensorBoard.

    Args:
        trainer: whose loggers are asked.
        key: name in the tracker.
        path: the picture, already written.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(Image.open(path).convert("RGB"))
            logger.experiment.add_image(key, pixels, trainer.global_step, dataformats="HWC")


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
