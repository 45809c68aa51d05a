"""Validating and saving an average of the weights."""

from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from lightning_sae.training.module import SAEModule


class EMA(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights, in place during the whole validation pass.

    Lightning's own callback takes the average back at the first `on_validation_epoch_end`, when the other
    callbacks still work with the weights. This one puts it in place before the first of them and takes it
    back after the last, so it has to stand behind them: `callbacks=[default,ema]`. Counters and thresholds
    are those of the training.

    Args:
        decay: of the average per optimiser step, in 0..1; `1 / (1 - decay)` steps should be few of all, or
            the average still holds the start.
        options: further arguments of `lightning.pytorch.callbacks.EMAWeightAveraging`.
    """

    logs = ()

    def __init__(self, decay: float = 0.99, **options: Any) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in 0..1, got {decay}")
        super().__init__(decay=decay, use_buffers=False, **options)
        self._resumed_at = 0  # step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the model in the precision of the training, which it would only get later."""
        if stage == "fit":
            with trainer.precision_plugin.module_init_context():
                pl_module.configure_model()
        super().setup(trainer, pl_module, stage)
        if average := self._average_model:  # which looks at its counter at every step, as a GPU would have to
            average.n_averaged = average.n_averaged.cpu()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: the average is there already."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: other callbacks still need the average."""

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on averaging, and remember how far the training was."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._resumed_at = int(checkpoint["global_step"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the average where no step is left to train: Lightning calls no hook of the training then."""
        if self._resumed_at == trainer.max_steps:
            self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the average the result; decoder rows, which averaging shortens, get unit norm again."""
        super().on_train_end(trainer, pl_module)
        for layer in cast(SAEModule, pl_module).layers:
            if layer.sae.W_dec.requires_grad:
                layer.sae.absorb_row_norms()
