"""Looking at a checkpoint before anything is captured: is it one that this run can start from?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lightning_sae.data import ActivationDataModule
from lightning_sae.training.checkpoint_io import read_checkpoint
from lightning_sae.training.module import FIXED, SAEModule


def check_checkpoint(
    path: str | Path, trainer: Trainer, module: SAEModule, data: ActivationDataModule, goes_on: bool
) -> None:
    """Refuse a checkpoint that the trainer would refuse after the capture, or mix with other settings.

    Args:
        path: of the checkpoint.
        trainer: that is to start from it.
        module: as the run was configured.
        data: the same.
        goes_on: whether the training goes on, not only a validation of its weights.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of an older version or of something else, of other settings or data, or of
            the last step already; names what differs.
    """
    checkpoint = read_checkpoint(path)
    name = type(data).__qualname__
    if name not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a training on the data of {name}")
    _check_form(path, checkpoint, name, goes_on)
    module.check_checkpoint(checkpoint["hyper_parameters"], goes_on)
    data.check_checkpoint(checkpoint[name], goes_on)
    step, last = checkpoint["global_step"], trainer.max_steps
    if goes_on and -1 < last <= step:
        raise ValueError(
            f"{path} is of step {step}, and trainer.max_steps={last}: nothing is left to train. Raise "
            "trainer.max_steps, or look at the weights with task=validate"
        )


def _check_form(path: str | Path, checkpoint: Mapping[str, Any], data: str, goes_on: bool) -> None:
    """Refuse a checkpoint without what a training saves under the key of its `data`, module and trainer."""
    needed: dict[str, type] = {"state_dict": Mapping, "global_step": int}
    needed |= {"hyper_parameters.sae": Mapping, f"{data}.clip": Mapping}
    if goes_on:
        needed |= {"optimizer_states": list, "lr_schedulers": list, "loops": Mapping}
        needed |= {f"{data}.data": Mapping, f"{data}.seed": int}
        needed |= {f"hyper_parameters.{name}": object for name in FIXED}
    if missing := [key for key, kind in needed.items() if not _holds(checkpoint, key, kind)]:
        raise ValueError(
            f"{path} is of an older version, or not of this library: it has no {', '.join(missing)}. Take "
            "another checkpoint, or start a new training without ckpt_path"
        )


def _holds(value: Any, key: str, kind: type) -> bool:
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return isinstance(value, kind)
