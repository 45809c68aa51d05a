"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Writes under a temporary name beside `path`, then renames; the mode follows the umask.

    Raises:
        OSError: the disk is full or not writable; nothing is left of this file, earlier ones stay.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write {len(content) / 1e6:.1f} MB to {path}: {error.strerror or error}. What was "
            "written before is kept: free some space and run the same command again, it resumes; or choose "
            "another place with data.store_dir=DIR, or half the size with data.dtype=float16",
        ) from error


def remove_temporaries(folder: Path) -> None:
    """Deletes what a killed writer left behind; only the holder of the folder's lock may call it."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
