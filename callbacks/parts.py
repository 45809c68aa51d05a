"""What callbacks join, with its types: the datamodule, the module, and each other."""

from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_sae.data import ActivationDataModule
from lightning_sae.training.module import SAEModule

C = TypeVar("C", bound=Callback)


def data_of(trainer: Trainer) -> ActivationDataModule:
    """The datamodule: images, CLIP, judge, probe."""
    return cast(ActivationDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def sae_of(pl_module: LightningModule) -> SAEModule:
    """The module: autoencoder and metrics."""
    return cast(SAEModule, pl_module)


def decoder_of(pl_module: LightningModule) -> Tensor:
    """`W_dec [d_sae, d_in]` in float32, as CLIP works, whatever the precision of the training."""
    return sae_of(pl_module).sae.W_dec.float()


def callbacks_of(trainer: Trainer) -> list[Any]:
    """All callbacks, in order."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def find(trainer: Trainer, kind: type[C]) -> C | None:
    """The callback of a kind, or `None` where it is switched off."""
    return next((callback for callback in callbacks_of(trainer) if isinstance(callback, kind)), None)


def is_last_pass(trainer: Trainer) -> bool:
    """Return whether the running validation pass closes the fit, as far as is known (`FinalValidation`)."""
    return trainer.should_stop or trainer.global_step == trainer.max_steps


def id_texts(image_ids: Tensor) -> list[str]:
    """Rows of image ids as a table shows them, those that are there (not -1).

    Example:
        >>> import torch
        >>> id_texts(torch.tensor([[7, 3], [5, -1]]))
        ['7 3', '5']
    """
    return [" ".join(str(i) for i in row if i >= 0) for row in image_ids.tolist()]
