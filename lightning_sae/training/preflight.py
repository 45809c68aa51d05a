"""Checks that refuse, before a capture of hours, what would be refused after it."""

from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from lightning_sae.data import ActivationDataModule
from lightning_sae.training.module import SAEModule
from lightning_sae.trust.numbers import check_counts

COUNTED = (
    *("max_steps", "max_epochs", "limit_train_batches"),
    *("val_check_interval", "check_val_every_n_epoch"),
)
"""Settings of the trainer that are numbers of steps, batches or epochs, or none."""


@runtime_checkable
class ChecksData(Protocol):
    """A callback that does not work with all data."""

    def check(self, data: ActivationDataModule) -> None:
        """Raise `ValueError` if it does not work with these data; nothing is captured yet."""
        ...


@runtime_checkable
class ChecksOrder(Protocol):
    """A callback that needs what others give."""

    def check_order(self, trainer: Trainer) -> None:
        """Raise `ValueError` where the callbacks of the trainer, in their order, do not give it."""
        ...


def check_settings(trainer: Trainer, module: SAEModule, data: ActivationDataModule, fits: bool) -> None:
    """Refuse settings of autoencoder, trainer, callbacks and labels that do not fit each other or the data.

    Args:
        trainer: with its callbacks.
        module: not yet configured.
        data: nothing of it has to be captured.
        fits: whether it is a training, not a validation alone.

    Raises:
        ValueError: says what does not fit, and what would.
    """
    for d_in in {data.d_in, *(each.d_in for each in data.earlier.values())}:
        module.check(d_in)
    data.check_hook_points()
    if fits:
        check_limits(trainer)
        module.check_end(trainer)
        if (norm := trainer.gradient_clip_val) is not None:
            raise ValueError(f"set module.gradient_clip={norm}, not trainer.gradient_clip_val")
        rows = len(data.images("train")) * (data.tokens_per_image or data.shape.tokens)
        check_passes(trainer, rows, data.batch_size)
    if (n := len(data.images("val"))) < trainer.world_size:
        raise ValueError(f"{n} val images are too few for {trainer.world_size} processes: add images")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ChecksOrder):
            callback.check_order(trainer)
        if isinstance(callback, ChecksData):
            callback.check(data)


def check_limits(trainer: Trainer) -> None:
    """Refuse a training of no step, and a count of 0 that Lightning divides by.

    Args:
        trainer: with its callbacks.

    Raises:
        ValueError: names each setting.
    """
    check_counts(1, **{"trainer.accumulate_grad_batches": trainer.accumulate_grad_batches})
    limits = {name: getattr(trainer, name) for name in COUNTED}
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    limits["max_time"] = next((each.time_remaining() for each in callbacks if isinstance(each, Timer)), None)
    if nothing := [f"trainer.{name}" for name, value in limits.items() if value == 0]:
        raise ValueError(
            f"{', '.join(nothing)} must not be 0: a training of no step has no results. Set -1 for no limit "
            "of steps or epochs, or look at the weights of a checkpoint with task=validate"
        )


def check_passes(trainer: Trainer, rows: int, batch_size: int) -> None:
    """Refuse a batch larger than the train store, and a validation interval longer than a pass over it.

    Args:
        trainer: whose `val_check_interval` counts batches.
        rows: largest number of activations in the train store; bad images may still be left out.
        batch_size: rows per batch and process.

    Raises:
        ValueError: says how many there are.
    """
    batches = rows // (batch_size * trainer.world_size)
    if batches < 1:
        raise ValueError(
            f"the train store has {rows} rows, fewer than a batch of data.batch_size={batch_size} on each of "
            f"{trainer.world_size} processes: set a smaller data.batch_size"
        )
    limit, interval = trainer.limit_train_batches, trainer.val_check_interval
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if batches < 1:
        raise ValueError(
            f"trainer.limit_train_batches={limit} of a pass over the train store is less than a batch: set a "
            "larger share, or a number of batches"
        )
    within_each_pass = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches != 0
    if within_each_pass and isinstance(interval, int) and interval > batches:
        raise ValueError(
            f"trainer.val_check_interval={interval} is more than the {batches} batches of a pass over the "
            f"train store, and trainer.check_val_every_n_epoch={trainer.check_val_every_n_epoch} counts "
            "within each pass: set trainer.check_val_every_n_epoch=null to count across passes, or a share "
            "of a pass, as trainer.val_check_interval=1.0"
        )
