"""Tensors that cost much and that every run wants again: computed once, kept on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from safetensors.torch import load_file, save
from torch import Tensor

from lightning_sae.data.claims import alone
from lightning_sae.data.images.image_set import digest
from lightning_sae.data.store.space import IN_A_STORE
from lightning_sae.files import remove_temporaries, writable, write_atomic


def cached_tensor(folder: Path, name: str, key: dict[str, Any], compute: Callable[[], Tensor]) -> Tensor:
    """Read a tensor that is kept in a folder of a store, or compute and keep it (`cached_tensors`).

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
    return cached_tensors(path, lambda: {name: compute()})[name]


def cached_tensors(path: Path, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read a file of a store's sub-folder, or make it; one process computes, the others wait.

    If the store lacks the file and cannot be written, it is kept in the user's cache folder instead.
    """
    if not path.exists() and not writable(path.parent):
        path = platformdirs.user_cache_path("lightning_sae").joinpath(*path.parts[-3:])
    if not path.exists():
        with alone(path.with_suffix(".lock"), f"making of {path}"):
            if not path.exists():
                remove_temporaries(path.parent, path.name)
                tensors = {key: value.detach().cpu().contiguous() for key, value in compute().items()}
                write_atomic(path, save(tensors), IN_A_STORE)
    return load_file(path)
