"""Checkpoints that are there whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name beside its own, then renames it.

    Lightning's own writes to the system's folder for temporary files and moves. To another file system that
    is a copy, and who is killed in the middle of it leaves half a checkpoint in the place of the one before.

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
        """Replaces the file at `path`; who is interrupted leaves the former one.

        Raises:
            OSError: the disk is full or not writable; the former file stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # one process writes
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError):  # the disk is full: torch says it by either
            part.unlink(missing_ok=True)
            raise
        os.replace(part, path)
