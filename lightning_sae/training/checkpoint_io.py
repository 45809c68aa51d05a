"""Checkpoints: written whole or not at all, and read without running code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch.utils._pytree import tree_leaves

from lightning_sae.files import NoRoomError, replacing
from lightning_sae.trust.damaged import UNREADABLE

TORCH_COULD_NOT_WRITE = ("unexpected pos", "PytorchStreamWriter")  # its words for a full disk


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name beside its own, then renames it.

    Lightning's own writes to the system's folder for temporary files and then moves the file. To another file
    system that is a copy, and a process that is killed in the middle of it leaves half a checkpoint in the
    place of the one before.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "last.ckpt")
        >>> AtomicCheckpointIO().save_checkpoint({"global_step": 3}, path)
        >>> torch.load(path, weights_only=True), [file.name for file in path.parent.iterdir()]
        ({'global_step': 3}, ['last.ckpt'])
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Replace the file at `path`; if writing is interrupted, the former file stays.

        Raises:
            NoRoomError: the disk is full; the former file stays.
            OSError: it cannot be written.
        """
        path = Path(path)
        needed = bytes_of(checkpoint)
        with replacing(path, needed) as part, part.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if any(words in str(error) for words in TORCH_COULD_NOT_WRITE):
                    # behind its own words stands what broke the writing off: a full disk, or Ctrl-C
                    raise error.__context__ or NoRoomError(path, needed) from None
                raise
            file.flush()
            os.fsync(file.fileno())


def bytes_of(value: Any) -> int:
    """Return the bytes of the tensors in nested mappings and lists.

    Example:
        >>> bytes_of({"weights": torch.zeros(3), "states": [{"step": 1, "mean": torch.zeros(2)}]})
        20
    """
    return sum(leaf.nbytes for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


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
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it ends too early"
        raise ValueError(f"the checkpoint {path} cannot be read ({reason}): take another one") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is no checkpoint of a training, it holds a {type(checkpoint).__name__}")
    return checkpoint
