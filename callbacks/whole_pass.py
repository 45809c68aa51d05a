"""The sparse latents of all images of a validation pass, collected once for every callback that asks."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.parts import find, sae_of
from lightning_sae.metrics import ImageLatents
from lightning_sae.types import SparseLatents, ValidationOutput


class WholePassCallback(Callback):
    """Base of the callbacks that look at all images of a pass at once: `finish`, and `image_latents` in it.

    The first such callback of the trainer collects for all of them and forgets when the pass is over. What
    is kept grows with the active latents: values and indices, the largest over an image's tokens.
    """

    _collected: ImageLatents | None = None

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The pass is over: log."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to collect."""
        if find(trainer, WholePassCallback) is self and not trainer.sanity_checking:
            self._collected = ImageLatents(sae_of(pl_module).sae.d_sae).to(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ValidationOutput,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collects."""
        if self._collected is not None:
            self._collected.update(outputs.latents, outputs.image_ids)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the pass."""
        if not trainer.sanity_checking:
            self.finish(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets."""
        self._collected = None


def image_latents(trainer: Trainer) -> tuple[SparseLatents, Tensor]:
    """Latents of all `n` images of the pass and their ids `[n]`, ascending; on all ranks or on none."""
    owner = find(trainer, WholePassCallback)
    if owner is None or owner._collected is None:
        raise ValueError("no validation pass has been collected; call this from WholePassCallback.finish")
    return owner._collected.latents()
