"""Every logged value in `metrics.csv` of the run folder."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_sae.files import replacing, room_for
from lightning_sae.training.checkpoint_io import read_checkpoint


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
        """Do nothing: Hydra keeps the run's config in `.hydra/config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
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
        rows: list[dict[str, str]] = []
        if self.ckpt_path:
            saved = read_checkpoint(self.ckpt_path)["global_step"]
            rows = [row for row in self._read() if int(row["step"]) < saved]
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
