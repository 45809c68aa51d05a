"""Tensors that cost much and that every run wants again: computed once, kept on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_sae.data.atomic import write_atomic
from lightning_sae.data.images import digest


def cached_tensor(folder: Path, name: str, key: dict[str, Any], compute: Callable[[], Tensor]) -> Tensor:
    """Reads a tensor from `folder`, or computes and keeps it; a second process waits for the first.

    Args:
        folder: where it is kept, one per what it depends on beside the key, such as `judge_folder`.
        name: what it is, the start of the file's name.
        key: what it depends on, as JSON; another key is another file, none is ever outdated.
        compute: makes it.

    Returns:
        On the CPU, equal whether it was read or computed.

    Raises:
        OSError: the disk is full or not writable.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> cached_tensor(folder, "ones", {"n": 2}, lambda: torch.ones(2))
        tensor([1., 1.])
        >>> cached_tensor(folder, "ones", {"n": 2}, lambda: torch.zeros(2))
        tensor([1., 1.])
    """
    path = folder / f"{name}-{digest(key)[:16]}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not path.exists():
                write_atomic(path, save({name: compute().detach().cpu().contiguous()}))
    return load_file(path)[name]
