"""The shipped weights: their paths, and the function that writes them."""

import os
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file

from lightning_sae.world.captions import Edition

_FOLDER = Path(__file__).parent


def config_path() -> Path:
    """Return the path of the open_clip model config that both tiny CLIPs share."""
    return _FOLDER / "world.json"


def weights_path(edition: Edition) -> Path:
    """Return the path of the weights of one edition's CLIP, float16 safetensors.

    Raises:
        ValueError: an edition that does not exist.
    """
    if edition not in get_args(Edition):
        raise ValueError(f"edition must be 'biased' or 'balanced', got {edition!r}")
    return _FOLDER / f"{edition}.safetensors"


def card_path() -> Path:
    """Return the path of the card, which holds the measurements of the shipped weights."""
    return _FOLDER / "CARD.md"


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write a state dict as float16 safetensors, whole or not at all."""
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    os.replace(temporary, path)
