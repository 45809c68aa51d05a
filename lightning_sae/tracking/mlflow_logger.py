"""MLflow: one MLflow run per run folder, whatever ends a process in between."""

import html
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.mappings import flatten
from lightning_sae.report.uris import webp_uri
from lightning_sae.tracking.hydra_job import this_job, tracker_config
from lightning_sae.tracking.tracker import MAX_ROWS, Tracker, illustrated

_REFUSED = re.compile(r"[^\w.\-/ :]")
"""Characters that MLflow takes in no name."""

LOCAL = "mlflow.db"
"""A database in the working folder, where MLflow itself looks: `mlflow server` there shows all runs."""


class RunMLFlowLogger(Tracker, MLFlowLogger):
    """Lightning's MLflow logger with one MLflow run per run folder: a resumed training goes on in that run.

    Parameters are the flat `tracker_config`. An MLflow run keeps the last version of each table, picture,
    page and file, which is written over the one before.

    Args:
        save_dir: the run folder, which tells runs apart (the tag `run_folder`).
        ckpt_path: checkpoint that the run resumes from: values that the MLflow run has are not logged again.
        tracking_uri: a server or a database; `None`: `MLFLOW_TRACKING_URI`, else `mlflow.db` in the working
            folder.
        experiment_name: of the experiment, which is made where there is none.
        group: the tag `group`; `None`: for a job of a multirun, the end of the path of the multirun's folder.
        name: of the MLflow run; `None`: the overrides of a job of a multirun, else MLflow makes up a name.
        tags: beside the chosen experiment, clip, data and sae.
        max_rows: rows of a table that are shown.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
    """

    def __init__(
        self,
        save_dir: str,
        ckpt_path: str | None = None,
        tracking_uri: str | None = None,
        experiment_name: str = "lightning_sae",
        group: str | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        max_rows: int = MAX_ROWS,
    ) -> None:
        if find_spec("mlflow") is None:
            raise ModuleNotFoundError('MLflow is not installed: pip install -e ".[mlflow]"')
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it reports its use to its makers
        job = this_job()
        chosen = dict(tag.split(":", 1) for tag in job.tags)
        told = chosen | {"run_folder": os.path.abspath(save_dir)} | dict(tags or {})
        if group or job.group:
            told["group"] = group or job.group or ""
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{os.path.abspath(LOCAL)}"
        with _alone(uri):
            super().__init__(experiment_name, run_name=name or job.name, tracking_uri=uri, tags=told)
        self.max_rows = max_rows
        self._resumes = ckpt_path is not None
        self._last: dict[str, int] = {}  # of a resumed run: key -> last step that MLflow has

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the run's config, without clutter; for a resumed run, only what is new.

        Raises:
            OSError: MLflow cannot start a run: no server there, or it refuses.
        """
        import mlflow  # slow, and not wanted by a run without it
        from mlflow.exceptions import MlflowException

        config = flatten(tracker_config(params, this_job().choices))
        named = {_REFUSED.sub(":", key): value for key, value in config.items()}
        try:
            mlflow.set_tracking_uri(self._tracking_uri)
            # made where there is none, also where two jobs come at once
            self._experiment_id = mlflow.set_experiment(self._experiment_name).experiment_id
            known = self._go_on() if self._resumes else {}
            super().log_hyperparams({key: value for key, value in named.items() if key not in known})
        except MlflowException as error:
            raise OSError(
                f"MLflow cannot start a run at {self._tracking_uri}: {error}. Look at MLFLOW_TRACKING_URI, "
                f"or keep the run on this machine: logger.mlflow.tracking_uri=sqlite:///{LOCAL}"
            ) from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values; for a resumed run, only those that MLflow does not have."""
        row = self.once(metrics, step)
        fresh = {key: value for key, value in row.items() if (step or 0) > self._last_step(key)}
        if fresh:
            super().log_metrics(fresh, step)

    def show_table(self, key: str, table: pd.DataFrame, step: int) -> None:
        """Show a table, as CSV among the artifacts."""
        self.experiment.log_text(self.run_id, table.to_csv(index=False), f"{key}.csv")

    def show_picture(self, key: str, path: Path, step: int) -> None:
        """Show the picture in a file, among the artifacts."""
        self.experiment.log_artifact(self.run_id, str(path), str(Path(key).parent))

    def show_illustrated(
        self, key: str, table: pd.DataFrame, pictures: Sequence[Image.Image], step: int
    ) -> None:
        """Show a table as a page among the artifacts."""
        shown = table.map(lambda cell: html.escape(cell) if isinstance(cell, str) else cell)
        images = [f'<img src="{webp_uri(picture)}" alt="">' for picture in pictures]
        with pd.option_context("display.max_colwidth", None):
            page = illustrated(shown, images).to_html(
                index=False, escape=False, na_rep="", float_format="{:.4g}".format
            )
        self.experiment.log_text(self.run_id, f"<!doctype html><meta charset=utf-8>{page}", f"{key}.html")

    def show_page(self, key: str, path: Path, step: int) -> None:
        """Show the HTML page in a file, among the artifacts."""
        self.experiment.log_artifact(self.run_id, str(path))

    def keep_files(self, name: str, files: Mapping[str, Path], aliases: Sequence[str]) -> None:
        """Keep files at their places in the run folder, where pictures and pages are also shown."""
        for place, path in files.items():
            self.experiment.log_artifact(self.run_id, str(path), place.rpartition("/")[0])

    def _go_on(self) -> dict[str, str]:
        """Take up the last MLflow run of the run folder, if there is one, and return its parameters."""
        client, folder = self._mlflow_client, (self.tags or {})["run_folder"]
        within = [str(self._experiment_id)]
        found = client.search_runs(within, f'tags.run_folder = "{folder}"', max_results=1)
        if not found:
            self._resumes = False
            return {}
        self._run_id = found[0].info.run_id
        client.update_run(self._run_id, status="RUNNING")
        known: dict[str, str] = found[0].data.params
        return known

    def _last_step(self, key: str) -> int:
        if not self._resumes:
            return -1
        if key not in self._last:
            history = self.experiment.get_metric_history(self.run_id, key)
            self._last[key] = max((value.step for value in history), default=-1)
        return self._last[key]


def _alone(uri: str) -> AbstractContextManager[Any]:
    """Keep other jobs out while MLflow makes its tables in a file, where two at a time fail."""
    path = uri.removeprefix("sqlite:///")
    return nullcontext() if path == uri else FileLock(f"{path}.lock")
