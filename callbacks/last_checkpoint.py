"""The checkpoint that a run goes on from, whatever ended it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_sae.training.random_state import random_state, set_random_state
from lightning_sae.training.stop_signal import StopSignal


class LastCheckpoint(Checkpoint):
    """`last.ckpt`, from which a killed run ends with the same weights and curves as an undisturbed one.

    It is written after each validation pass, every few minutes in between, and when SLURM signals that the
    job has to go (SIGUSR1, SIGUSR2, SIGTERM). The training then stops after the running step, and the handler
    that was there before is called: under submitit it requeues the job. A signal during a validation pass
    waits for the end of the pass.

    A checkpoint saved after a step takes the place of the former one, by a rename, when the next step begins
    and the row of the step is in `metrics.csv` too; one saved after the last step, when the run is over. A
    run that is killed before that goes on from the former checkpoint.

    Args:
        dirpath: folder of `last.ckpt`.
        minutes: most minutes between two checkpoints; 0: after every step; `None`: only after validation.

    Raises:
        ValueError: `minutes` is negative.
    """

    logs = ()

    def __init__(self, dirpath: str, minutes: float | None = 10.0) -> None:
        if minutes is not None and minutes < 0:
            raise ValueError(f"minutes must be at least 0, or null for none in between, got {minutes}")
        self.path, self.minutes = Path(dirpath) / "last.ckpt", minutes
        self._next = self.path.with_name(".next.ckpt")
        self._saved_at, self._waiting, self._stop = 0.0, False, 0
        self._signal = StopSignal()
        self._random_state: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch for signals, before Lightning's own handlers, which would save within a step."""
        if stage == "fit":
            self._signal.watch()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the random numbers of the checkpoint."""
        if self._random_state:
            set_random_state(self._random_state)
        self._saved_at, self._waiting, self._stop = time.monotonic(), False, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Publish the checkpoint of the step before, and stop if a signal has come."""
        _count_epoch(trainer)
        self._publish(trainer)
        if self._stop:
            self._leave(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or a signal came."""
        self._stop = _largest(trainer, self._signal.received or signal.SIGTERM * trainer.received_sigterm)
        due = self._stop or self._is_time(trainer) or trainer.global_step == trainer.max_steps
        if due and not _validation_follows(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after all other callbacks."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Publish the checkpoint if Lightning stops by itself at the end of a step in which SIGTERM came."""
        if isinstance(exception, SIGTERMException):
            self._publish(trainer)
        self._signal.release()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Publish the checkpoint, as the run is over."""
        self._publish(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have signals do what they did before."""
        self._signal.release()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random numbers, which go on from it."""
        return {"random_state": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random numbers of the checkpoint until the training starts."""
        self._random_state = state_dict["random_state"]

    def _is_time(self, trainer: Trainer) -> bool:
        if self.minutes is None:
            return False
        return bool(_largest(trainer, time.monotonic() - self._saved_at >= 60 * self.minutes))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._next)
        self._saved_at, self._waiting = time.monotonic(), True

    def _publish(self, trainer: Trainer) -> None:
        if self._waiting and trainer.is_global_zero:
            os.replace(self._next, self.path)
        self._waiting = False

    def _leave(self, trainer: Trainer) -> None:
        try:
            self._signal.hand_on(self._stop)
        finally:  # the first process may have to requeue the job before another one ends
            trainer.strategy.barrier()
        raise SystemExit(128 + self._stop)


def _largest(trainer: Trainer, value: float) -> int:
    """Return the largest value over all processes: they save and stop together."""
    if trainer.world_size == 1:
        return int(value)
    given = torch.tensor(int(value), device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(given, reduce_op="max"))


def _count_epoch(trainer: Trainer) -> None:
    """Count a pass over the data as started, which Lightning forgets for the first pass of a resumed run.

    Lightning forgets it where the checkpoint was saved after the last step of a pass. If the run were resumed
    there once more, it would take the next pass for the one before.
    """
    progress = trainer.fit_loop.epoch_progress
    if progress.current.ready == trainer.current_epoch:
        progress.increment_ready()
        progress.increment_started()


def _validation_follows(trainer: Trainer) -> bool:
    # resumed from before it, Lightning would leave it out
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)
