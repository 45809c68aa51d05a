"""What a run folder knows about its run: the settings, whether it is finished, and the last values."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from lightning_sae.data.atomic import write_atomic
from lightning_sae.data.manifest import flatten
from lightning_sae.documents import read_json

FREE = ("ckpt_path", "resume", "run_dir", "optimized_metric", "errors")
"""Settings that may change when a run goes on."""


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

    def __init__(self, folder: str, optimized_metric: str | Sequence[str] | None = None) -> None:
        self.path = Path(folder) / "run.json"
        self.optimized_metric = optimized_metric
        self.finished = False
        self.metrics: dict[str, float] = {}
        self._config: dict[str, Any] = {}

    @property
    def objective(self) -> float | tuple[float, ...] | None:
        """The last value of what `optimized_metric` names."""
        if self.optimized_metric is None:
            return None
        values = tuple(self._value(name) for name in self._names())
        return values[0] if isinstance(self.optimized_metric, str) else values

    def begin(self, config: dict[str, Any]) -> str | None:
        """Looks whether the folder holds this run already.

        Args:
            config: as composed, interpolations not resolved; with `task`, `resume` and `ckpt_path`.

        Returns:
            The checkpoint to start from, if any: the given one, else `last.ckpt` of the folder.

        Raises:
            ValueError: the folder holds a run with other settings.
        """
        self._config, last = config, self.path.parent / "checkpoints" / "last.ckpt"
        given: str | None = config["ckpt_path"]
        if config["task"] != "fit":
            return given
        if config["resume"] and not given and self.path.exists():
            before = read_json(self.path, needed=["config", "metrics"])
            self._compare(before["config"])
            self.metrics, self.finished = before["metrics"] or {}, before["metrics"] is not None
            return str(last) if last.exists() else None
        self._start(None if given else last)
        return given

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the values, and finds a misspelt metric before the training has gone far."""
        if not trainer.sanity_checking:
            self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            _ = self.objective

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The run is finished."""
        self._write(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """For who goes on behind the last validation pass."""
        return {"metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The values of the last validation pass."""
        self.metrics = state_dict["metrics"]

    def _names(self) -> list[str]:
        given = self.optimized_metric
        return [given] if isinstance(given, str) else list(given or ())

    def _value(self, name: str) -> float:
        if name in self.metrics:
            return self.metrics[name]
        close = get_close_matches(name, self.metrics, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(self.metrics)}"
        raise ValueError(f"optimized_metric names {name!r}, which the validation pass did not log: {hint}")

    def _compare(self, before: dict[str, Any]) -> None:
        then, now = _settings(before), _settings(self._config)
        changed = [
            f"{key} {then.get(key)!r} -> {now.get(key)!r}"
            for key in [*now, *(key for key in then if key not in now)]
            if then.get(key) != now.get(key)
        ]
        if changed:
            folder = self.path.parent
            raise ValueError(
                f"{folder} holds a run with other settings: {', '.join(changed)}. Choose another folder, "
                "start anew with resume=false, or go on all the same with "
                f"ckpt_path={folder}/checkpoints/last.ckpt"
            )

    @rank_zero_only
    def _start(self, stale: Path | None) -> None:
        if stale:
            stale.unlink(missing_ok=True)  # else who is killed early would go on from the run before
        self._write(None)

    @rank_zero_only
    def _write(self, metrics: Mapping[str, float] | None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps({"metrics": metrics, "config": self._config}, indent=1).encode())


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return flatten({key: value for key, value in config.items() if key not in FREE})
