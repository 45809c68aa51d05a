"""Is there room for what is to be captured?"""

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from lightning_sae.files import gigabytes

SHARD_HEAD = 4096  # bytes of a shard beside its tensors

IN_A_STORE = (
    "What was written before is kept: free some space and run the same command again, it resumes; or choose "
    "another place with data.store_dir=DIR, or half the size with data.dtype=float16"
)


class Needs(Protocol):
    """Something that is going to be written."""

    @property
    def folder(self) -> Path:
        """The folder that is written to."""
        ...

    def bytes_missing(self) -> int:
        """Return how many bytes are still to be written."""
        ...


def check_space(wanted: Iterable[Needs], dtype: str) -> None:
    """Compare what is still to be written with the free space, before hours of capture.

    Args:
        wanted: all that goes to one disk.
        dtype: of the activations, for the advice.

    Raises:
        OSError: the disk is too small; says what is needed, what is free, and what to do.
    """
    sizes = {item.folder: item.bytes_missing() for item in wanted}
    needed = sum(sizes.values())
    if not needed:
        return
    place = next(path for path in next(iter(sizes)).resolve().parents if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        smaller = "half the size with data.dtype=float16, " if dtype == "float32" else ""
        raise OSError(
            errno.ENOSPC,
            f"the store needs {gigabytes(needed)} more in {place}, and {gigabytes(free)} are free: {smaller}"
            "another place with data.store_dir=DIR, fewer tokens (tokens=cls) or hook points "
            "(data.also_capture), or free some space",
        )
