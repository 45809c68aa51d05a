"""A validation of the final weights, with which every training closes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FinalValidation(Callback):
    """Validates at the end of a fit, unless the last step has just been validated.

    So tables, summary and card are of the weights that are saved, also where `max_steps` is no multiple of
    `val_check_interval` or below it, and where an epoch, a time limit or another callback ended the fit.
    """

    def __init__(self) -> None:
        self._validated = -1  # step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Correct Lightning's count of steps, for a training that goes on after such a pass."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step  # else one too few

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the fit after its last step, which makes Lightning validate first."""
        epochs = trainer.max_epochs
        last_pass = epochs is not None and 0 < epochs <= trainer.current_epoch + 1
        if trainer.global_step == trainer.max_steps or (last_pass and trainer.is_last_batch):
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step."""
        if not trainer.sanity_checking:
            self._validated = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate where Lightning did not, as when a fit is ended at the end of an epoch."""
        if self._validated == trainer.global_step or not trainer.enable_validation:
            return
        trainer.should_stop = trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True
