"""Curves, tables and pictures: into the run folder, and from there to the trackers."""

import csv
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.concepts.naming import with_names
from lightning_sae.data.atomic import write_atomic
from lightning_sae.files import replacing, room_for
from lightning_sae.tracking.hydra_job import this_job, tracker_config
from lightning_sae.trust.tables import csv_bytes

MAX_TRACKER_ROWS = 100
"""Rows of a table that a tracker is shown; the file in the run folder has all of them."""


class RunCSVLogger(Logger):
    """Writes every logged value to `metrics.csv`: a row per call, a column per key, and `step`.

    A new key rewrites the file with one more column. Lightning's own `CSVLogger` deletes the curve of a run
    that resumes; this one goes on behind the checkpoint.

    Args:
        save_dir: folder of `metrics.csv`, the run folder.
        ckpt_path: checkpoint that the run resumes from: rows before its step stay, later ones are dropped
            with the first row that is written. Without one, the first row starts a new file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> logger = RunCSVLogger(folder)
        >>> logger.log_metrics({"val/fvu": 0.5}, step=3)
        >>> logger.log_metrics({"val/fvu": 0.25, "val/l0": 16.0}, step=7)
        >>> print(logger.path.read_text())
        step,val/fvu,val/l0
        3,0.5,
        7,0.25,16.0
    """

    def __init__(self, save_dir: str, ckpt_path: str | None = None) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self.ckpt_path = ckpt_path
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Lightning puts it into default folder names."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning puts it into default folder names."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: Hydra keeps the run's config in `.hydra/config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends a row."""
        row: dict[str, Any] = {"step": step, **metrics}
        columns = self._columns if self._columns is not None else self._start()
        fresh = [key for key in row if key not in columns]
        if fresh:
            columns = [*columns, *fresh]
            self._rewrite(self._read(), columns)
        self._columns = columns
        with room_for(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, columns, lineterminator="\n").writerow(row)

    def _start(self) -> list[str]:
        rows = self._read() if self.ckpt_path else []
        rows = [row for row in rows if int(row["step"]) < _global_step(str(self.ckpt_path))]
        columns = list(rows[0]) if rows else ["step"]
        self._rewrite(rows, columns)
        return columns

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        with replacing(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


class RunTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing to `tensorboard/` in the run folder.

    Args:
        save_dir: the run folder.
        ckpt_path: checkpoint that the run resumes from: what was logged after its step is not shown.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, save_dir: str, ckpt_path: str | None = None) -> None:
        if find_spec("tensorboard") is None:
            raise ModuleNotFoundError('TensorBoard is not installed: pip install -e ".[tensorboard]"')
        beyond = None if ckpt_path is None else _global_step(ckpt_path)
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False, purge_step=beyond)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run's config, without clutter."""
        super().log_hyperparams(tracker_config(params, this_job().choices), *args, **kwargs)


def _global_step(ckpt_path: str) -> int:
    checkpoint = torch.load(ckpt_path, map_location="cpu", weights_only=True, mmap=True)
    return int(checkpoint["global_step"])


def run_dir(trainer: Trainer) -> Path:
    """The run folder, where everything that a tracker shows also lies."""
    return Path(trainer.default_root_dir)


@rank_zero_only
def publish_table(trainer: Trainer, key: str, table: pd.DataFrame) -> None:
    """Writes a table to `<key>.csv` in the run folder and shows its first `MAX_TRACKER_ROWS` rows to W&B.

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
    """Shows the first `MAX_TRACKER_ROWS` rows of a table to W&B, each with a picture; writes no file.

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
    """Shows a picture of the run folder to W&B and TensorBoard.

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
