"""Files that are there whole or not at all."""

import os
from pathlib import Path

from lightning_sae.files import ADVICE, NoRoomError, gigabytes, replacing

IN_A_STORE = (
    "What was written before is kept: free some space and run the same command again, it resumes; or choose "
    "another place with data.store_dir=DIR, or half the size with data.dtype=float16"
)


def write_atomic(path: Path, content: bytes, advice: str = ADVICE) -> None:
    """Writes under a temporary name beside `path`, then renames; the mode follows the umask.

    Args:
        path: the file.
        content: all of it.
        advice: what to do where it cannot be written; ends the message.

    Raises:
        OSError: the disk is full or not writable; nothing is left of this file, earlier ones stay.
    """
    try:
        with (
            replacing(path, len(content), advice, f"{os.getpid()}.tmp") as temporary,
            temporary.open("wb") as file,
        ):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except NoRoomError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno, f"cannot write {gigabytes(len(content))} to {path}: {reason}. {advice}"
        ) from error


def remove_temporaries(folder: Path, name: str) -> None:
    """Deletes what killed writers left of the files `name` (a pattern); nobody may be writing them."""
    for path in folder.glob(f".{name}.*.tmp"):
        path.unlink(missing_ok=True)


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)
