"""Weights & Biases: one W&B run per run folder, whatever ends a process in between."""

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lightning_sae.tracking.hydra_job import this_job, tracker_config
from lightning_sae.tracking.tracker import MAX_ROWS, Tracker, illustrated
from lightning_sae.tracking.values import better

REPEATED_ROWS = 1000
"""More rows than the 32 KiB hold that W&B's service keeps back before it writes, at 60 bytes a row."""

_OFFLINE = "Or keep the run on this machine, to be uploaded later: logger.wandb.offline=true"


class RunWandbLogger(Tracker, WandbLogger):
    """Lightning's W&B logger with one W&B run per run folder: a resumed training goes on in that run.

    The summary of a value has its last, and its best where `tracking.values` knows which way is better:
    `val/fvu.min` and `val/fvu.last`. The config is `tracker_config`: no class names, nothing twice.

    W&B writes from a process of its own, which dies of the SIGTERM that SLURM sends to each process of a job,
    or with the machine, and loses the last rows. So a logger that goes on, in the same process with a new
    service or in the next process, first repeats the last `REPEATED_ROWS` rows of `metrics.csv`: the same
    values at the same steps.

    Args:
        save_dir: the run folder; W&B writes to `wandb/` below it.
        offline: keeps the run on this machine, and W&B silent: there is no link to show.
        group: what is shown together; `None`: the jobs of a multirun, by the end of its folder's path.
        name: of the W&B run; `None`: the overrides of a job of a multirun, else W&B makes up a name.
        tags: beside the chosen experiment, clip, data and sae.
        max_rows: rows of a table that are shown.
        **kwargs: passed to `lightning.pytorch.loggers.WandbLogger` and from there to `wandb.init`.

    Raises:
        ValueError: the run is to be live, and nobody is logged in.
    """

    def __init__(
        self,
        save_dir: str,
        offline: bool = True,
        group: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        max_rows: int = MAX_ROWS,
        **kwargs: Any,
    ) -> None:
        if not offline:
            _check_login()
        run_id = _id_of_earlier(save_dir)
        job = this_job()
        settings = {"silent": offline}
        kwargs |= {"group": group or job.group, "name": name or job.name, "tags": [*job.tags, *tags]}
        super().__init__(save_dir=save_dir, id=run_id, offline=offline, settings=settings, **kwargs)
        self.max_rows = max_rows
        self._rows = Path(save_dir) / "metrics.csv"
        self._behind = run_id is not None
        self._step: int | None = None
        self._config: dict[str, Any] = {}
        self._defined: set[str] = set()

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the run's config, without clutter.

        Raises:
            OSError: W&B cannot start a run: no network, or a key that it does not know.
        """
        from wandb.errors import Error

        self._config = tracker_config(params, this_job().choices)
        try:
            self._served(self._log_config)
        except Error as error:
            raise OSError(f"W&B cannot start a run: {error}. {_OFFLINE}") from error

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values, and say what the summary of a new key is."""
        self._step = self._step if step is None else step
        self._served(lambda: self._log(metrics, step))

    def show_table(self, key: str, table: pd.DataFrame, step: int) -> None:
        """Show a table."""
        self.log_table(key, dataframe=table, step=step)

    def show_picture(self, key: str, path: Path, step: int) -> None:
        """Show the picture in a file."""
        self.log_image(key, [str(path)], step=step)

    def show_illustrated(
        self, key: str, table: pd.DataFrame, pictures: Sequence[Image.Image], step: int
    ) -> None:
        """Show a table with a column of pictures."""
        import wandb  # slow, and not wanted by a run without it

        self.show_table(key, illustrated(table, [wandb.Image(picture) for picture in pictures]), step)

    def show_page(self, key: str, path: Path, step: int) -> None:
        """Show the HTML page in a file."""
        import wandb  # slow, and not wanted by a run without it

        self._served(lambda: self._log({key: wandb.Html(str(path), inject=False)}, step))

    def keep_files(self, name: str, files: Mapping[str, Path], aliases: Sequence[str]) -> None:
        """Keep files as an artifact of this run, a version each time; W&B reads them where they lie."""
        import wandb  # slow, and not wanted by a run without it

        def keep() -> None:
            artifact = wandb.Artifact(f"{name}-{self.experiment.id}", type=name)
            for place, path in files.items():
                artifact.add_file(str(path), name=place, policy="immutable")
            self.experiment.log_artifact(artifact, aliases=[*aliases])

        self._served(keep)

    @rank_zero_only
    def finish(self) -> None:
        """Close the W&B run; the next job of the same process starts its own."""
        if self._experiment is not None:
            self._served(self._close)

    def _log_config(self) -> None:
        super().log_hyperparams(self._config)

    def _log(self, metrics: Mapping[str, Any], step: int | None) -> None:
        self._repeat()
        curves = {key for key, value in metrics.items() if isinstance(value, int | float)}
        for key in curves - self._defined:
            summary = ",".join(filter(None, (better(key), "last")))
            name = key.replace(".", r"\.")  # a dot alone leads into a mapping
            self.experiment.define_metric(
                name, step_metric="trainer/global_step", step_sync=True, summary=summary
            )
            self._defined.add(key)
        super().log_metrics(self.once(metrics, step), step)

    def _close(self) -> None:
        self._repeat()
        self.experiment.finish()

    def _repeat(self) -> None:
        """Log the last rows up to this step again; rows that a run had after the checkpoint are left out."""
        if not self._behind or self._step is None:
            return
        self._behind = False
        for row in _last_rows(self._rows, self._step):
            self._log(row, int(row.pop("step")))

    def _served(self, call: Callable[[], None]) -> None:
        """Call a function, and once more with a new service if the old one has died."""
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        try:
            call()
        except (ConnectionError, HandleAbandonedError, MailboxClosedError):
            self._leave_dead_service()
            self._log_config()
            call()

    def _leave_dead_service(self) -> None:
        import wandb  # slow, and not wanted by a run without it

        dead = self.experiment
        dead._console_stop()  # else each line that is printed goes on to be sent to it
        with suppress(
            ConnectionError, SystemExit
        ):  # no good-bye, and W&B ends a program whose service was killed
            wandb.teardown()
        wandb.run = None  # else Lightning takes it for the new run
        self._wandb_init["id"], self._experiment = dead.id, None
        self._defined, self._behind = set(), True


@rank_zero_only
def _check_login() -> None:
    import wandb  # slow, and not wanted by a run without it

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ValueError(f"a live W&B run wants a login: `wandb login`, or WANDB_API_KEY. {_OFFLINE}")


def _id_of_earlier(save_dir: str) -> str | None:
    """Return the id of the W&B run of a run folder, by the file that each of its segments has."""
    files = sorted(Path(save_dir).glob("wandb/*run-*-*/run-*.wandb"))
    return files[-1].stem.removeprefix("run-") if files else None


def _last_rows(path: Path, step: int) -> list[dict[str, float]]:
    """Return the rows of `metrics.csv` up to a step, with the values that they have; none without a file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if row["step"] <= step][-REPEATED_ROWS:]
