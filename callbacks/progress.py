"""One progress bar for the whole training, whatever its passes over the data; in a log file plain lines."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from lightning_sae.progress import ProgressLines, shows_bars


class StepProgress(TQDMProgressBar):
    """Lightning's bar, counting optimiser steps up to the last one instead of batches of an epoch.

    Where no bar can be drawn, in a log file or beside other jobs on one terminal, a plain line a minute says
    how far the training is, and how far a long validation pass.

    Args:
        refresh_rate: steps between two updates; 0 for no bar and no lines.
    """

    logs = ()

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate)
        self._plain = False
        self._steps: ProgressLines | None = None
        self._batches: ProgressLines | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose between bars and lines."""
        super().setup(trainer, pl_module, stage)
        self._plain = self.refresh_rate > 0 and trainer.is_global_zero and not shows_bars()
        if self._plain:
            self.disable()

    def on_train_start(self, *args: Any) -> None:
        """Open the bar where the training starts or resumes."""
        super().on_train_start(*args)
        steps = self.trainer.estimated_stepping_batches
        bar = self.train_progress_bar
        bar.set_description("Training")
        bar.total = None if math.isinf(steps) else int(steps)
        bar.initial = bar.n = self.trainer.global_step
        if self._plain:
            self._steps = ProgressLines("training", steps, "steps", self.trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Do nothing: the bar goes on."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._steps is not None:
            self._steps.move(trainer.global_step, lambda: self._said(trainer, pl_module))
        bar = self.train_progress_bar
        if not bar.disable and self._should_update(trainer.global_step, bar.total or 0):
            bar.n = trainer.global_step
            bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_train_end(self, *args: Any) -> None:
        """Close the bar."""
        super().on_train_end(*args)
        if self._steps is not None:
            self._steps.finish()
            self._steps = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of a validation pass."""
        super().on_validation_start(trainer, pl_module)
        if self._plain and not trainer.sanity_checking:
            self._batches = ProgressLines("validating", sum(trainer.num_val_batches), "batches")

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Move the bar of a validation pass."""
        super().on_validation_batch_end(*args, **kwargs)
        if self._batches is not None:
            self._batches.advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar of a validation pass."""
        super().on_validation_end(trainer, pl_module)
        if self._batches is not None:
            self._batches.finish(always=False)
            self._batches = None

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what is shown after the bar: the last logged loss, and not the id of the tracker's run.

        Lightning turns values that are logged with `prog_bar` into numbers at every step, and waits for a GPU
        to do so; the bar asks for the loss only when it moves.
        """
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else {"train/loss": float(loss), **metrics}

    def _said(self, trainer: Trainer, pl_module: LightningModule) -> str:
        metrics = self.get_metrics(trainer, pl_module)
        return ", ".join(
            f"{key} {value:.4g}" for key, value in metrics.items() if isinstance(value, int | float)
        )
