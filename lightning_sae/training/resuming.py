"""Looking at a checkpoint before anything is captured: is it one that this run can start from?"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from lightning_sae.data import ActivationDataModule
from lightning_sae.training.module import SAEModule


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
        ValueError: it is damaged or of something else, of other settings or data, or of the last step
            already; names what differs.
    """
    checkpoint = read_checkpoint(path)
    name = type(data).__qualname__
    if not {"hyper_parameters", name} <= checkpoint.keys():
        raise ValueError(f"{path} is no checkpoint of a training on the data of {name}")
    module.check_checkpoint(checkpoint["hyper_parameters"], goes_on)
    data.check_checkpoint(checkpoint[name], goes_on)
    step, last = checkpoint["global_step"], trainer.max_steps
    if goes_on and -1 < last <= step:
        raise ValueError(
            f"{path} is of step {step}, and trainer.max_steps={last}: nothing is left to train. Raise "
            "trainer.max_steps, or look at the weights with task=validate"
        )


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Return what a checkpoint holds, its tensors memory-mapped; no code in it is run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no checkpoint.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no checkpoint {path}: ckpt_path is a file that a training wrote, as RUN/checkpoints/last.ckpt"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it ends too early"
        raise ValueError(f"the checkpoint {path} cannot be read ({reason}): take another one") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is no checkpoint of a training, it holds a {type(checkpoint).__name__}")
    return checkpoint
