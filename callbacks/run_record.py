"""What a run folder knows about its run: settings, images, whether it is finished, and the last values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_sae.data import ActivationDataModule
from lightning_sae.data.claims import claimed
from lightning_sae.data.store.layout import check_data
from lightning_sae.errors import ctrl_c_ends
from lightning_sae.files import user_path, write_atomic
from lightning_sae.mappings import differences, flatten
from lightning_sae.tracking.monitored import alike, check_monitored
from lightning_sae.training.launch import refuse
from lightning_sae.training.module import SAEModule
from lightning_sae.training.preflight import check_settings
from lightning_sae.training.resuming import check_checkpoint
from lightning_sae.training.settings import CONFIG, save_settings
from lightning_sae.trust.documents import read_json

FREE = ("ckpt_path", "resume", "run_dir", "optimized_metric", "errors", "listed")
"""Settings that may change when a run goes on."""

LOCK = ".running.lock"
ADVICE = "wait for its end, or choose another folder with hydra.run.dir=DIR"


class RunRecord(Callback):
    """Keeps `run.json` in the run folder, so that the same command goes on, or finds nothing left to do.

    Args:
        folder: the run folder.
        optimized_metric: what the run returns to a sweep: a metric of the last validation pass, or several.

    Attributes:
        finished: whether the folder holds a finished run, so that there is nothing to do.
        metrics: what the last validation pass logged.

    Raises:
        ValueError: a metric that no validation pass logs.
    """

    logs = ()

    def __init__(self, folder: str, optimized_metric: str | Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "run.json"
        self.optimized_metric = optimized_metric
        self.finished = False
        self.metrics: dict[str, float] = {}
        self._config: dict[str, Any] = {}
        self._before: dict[str, Any] = {}  # of the run that this one goes on with
        self._data: dict[str, str] = {}

    @property
    def objective(self) -> float | tuple[float, ...] | None:
        """The last value of what `optimized_metric` names."""
        if self.optimized_metric is None:
            return None
        values = tuple(self._value(name) for name in self._names())
        return values[0] if isinstance(self.optimized_metric, str) else values

    @property
    def _given(self) -> str | None:
        """The checkpoint that the user names."""
        given = self._config["ckpt_path"]
        return None if given is None else str(user_path(given))

    def begin(self, config: dict[str, Any]) -> str | None:
        """Look whether the folder holds this run already; write nothing.

        Args:
            config: as composed, interpolations not resolved; with `task`, `resume` and `ckpt_path`.

        Returns:
            The checkpoint to start from, if any: the given one, else `last.ckpt` of the folder.

        Raises:
            ValueError: an unknown task, or the folder holds a finished run with other settings.
        """
        if config["task"] not in ("fit", "validate"):
            raise ValueError(f"task must be fit or validate, got {config['task']!r}")
        self._config, self._before = config, {}
        given = self._given
        if config["task"] != "fit" or given or not config["resume"] or not self.path.exists():
            return given
        before = _read_record(self.path)
        if before["metrics"] is not None:
            self._before = before
            self._compare()
            self.metrics, self.finished = before["metrics"], True
        elif self._last.exists():
            self._before = before
            return str(self._last)
        return None

    def check_data(self, data: Mapping[str, str]) -> None:
        """Refuse other data than those of the run that the folder holds.

        Args:
            data: identity of those at hand (`ActivationDataModule.data_identity`).

        Raises:
            ValueError: they differ; says in what.
        """
        if self._before:
            check_data(self._before["data"], data)

    @contextmanager
    def held(self, trainer: Trainer, module: SAEModule, data: ActivationDataModule) -> Iterator[None]:
        """Claim the folder for the task in the block, and note when a training came to its end.

        The first of several processes claims the folder. What one process refuses, all refuse once they are
        connected: otherwise the others would wait for it.

        Args:
            trainer: of the run.
            module: the same.
            data: the same.

        Raises:
            ValueError: settings do not fit each other or the data; another training is at work in the folder;
                the run in the folder, or the given checkpoint, has other settings or images, which are named.
                The folder stays as it was.
        """
        fits = self._config["task"] == "fit"
        with ExitStack() as claims:
            try:
                check_settings(trainer, module, data, fits)
                check_monitored(trainer, module, self._names(), fits)
                if given := self._given:
                    check_checkpoint(given, trainer, module, data, fits)
                if trainer.is_global_zero and fits:
                    claims.enter_context(claimed(self.folder / LOCK, str(self.folder), ADVICE))
                    self._start(data.data_identity())
                elif trainer.is_global_zero and not (self.folder / CONFIG).exists():
                    save_settings(self.folder, self._config)
            except (ValueError, OSError) as refusal:
                refuse(trainer, refusal)
            with ctrl_c_ends():
                yield
            if trainer.is_global_zero and fits:
                self._write(self.metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the values, and find a misspelt metric before the training has gone far."""
        if not trainer.sanity_checking:
            self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            _ = self.objective

    def state_dict(self) -> dict[str, Any]:
        """Return the values of the last validation pass, for a run that goes on from there."""
        return {"metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the values of the last validation pass."""
        self.metrics = state_dict["metrics"]

    def _names(self) -> list[str]:
        given = self.optimized_metric
        return [given] if isinstance(given, str) else list(given or ())

    def _value(self, name: str) -> float:
        if name in self.metrics:
            return self.metrics[name]
        hint = alike(name, self.metrics)
        raise ValueError(f"optimized_metric names {name!r}, which the validation pass did not log: {hint}")

    @property
    def _last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    def _start(self, data: dict[str, str]) -> None:
        if self._before:
            self._compare()
            self.check_data(data)
        elif not self._config["ckpt_path"]:
            self._last.unlink(missing_ok=True)  # else who is killed early would go on from the run before
        self._data = data
        save_settings(self.folder, self._config)
        self._write(None)

    def _compare(self) -> None:
        then, now = _settings(self._before["config"]), _settings(self._config)
        changed = differences(then, now)
        if changed:
            kind = "a run" if self._before["metrics"] is None else "a finished run"
            raise ValueError(
                f"{self.folder} holds {kind} with other settings: {', '.join(changed)}. Choose another "
                "folder with hydra.run.dir=DIR, or start anew in this one with resume=false"
            )

    def _write(self, metrics: Mapping[str, float] | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"metrics": metrics, "config": self._config, "data": self._data}
        write_atomic(self.path, json.dumps(content, indent=1).encode())


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path, needed=["config", "metrics"])
    wrong = [key for key in ("config", "data") if not isinstance(record.get(key), dict)]
    if wrong or not isinstance(record["metrics"], dict | None):
        raise ValueError(
            f"{path} is of an older version, or not of this library: {', '.join(wrong) or 'metrics'} must be "
            "an object. Choose another folder with hydra.run.dir=DIR, or start anew with resume=false"
        )
    return record


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return flatten({key: value for key, value in config.items() if key not in FREE})
