"""One progress bar for the whole training, whatever its passes over the data."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class StepProgress(TQDMProgressBar):
    """Lightning's bar, counting optimiser steps up to the last one instead of batches of an epoch.

    Args:
        refresh_rate: steps between two updates; 0 for no bar.
    """

    logs = ()

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate)

    def on_train_start(self, *args: Any) -> None:
        """Open the bar where the training starts or resumes."""
        super().on_train_start(*args)
        steps = self.trainer.estimated_stepping_batches
        bar = self.train_progress_bar
        bar.set_description("Training")
        bar.total = None if math.isinf(steps) else int(steps)
        bar.initial = bar.n = self.trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Do nothing: the bar goes on."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        bar = self.train_progress_bar
        if not bar.disable and self._should_update(trainer.global_step, bar.total or 0):
            bar.n = trainer.global_step
            bar.set_postfix(self.get_metrics(trainer, pl_module))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what stands behind the bar: the last logged loss, and not the id of the tracker's run.

        Of what is logged with `prog_bar` Lightning makes numbers at every step, and waits for a GPU; the bar
        asks for the loss when it moves.
        """
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else {"train/loss": float(loss), **metrics}
