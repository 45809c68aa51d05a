"""Files that appear whole or not at all, disks without room for them, and paths of users."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = "Free some space and run it again"


class NoRoomError(OSError):
    """The error that a disk or a user's quota is full; the message has path, needed and free space."""

    def __init__(self, path: str | Path, needed: int | None = None, advice: str = ADVICE) -> None:
        there = next(folder for folder in Path(path).absolute().parents if folder.exists())
        free = shutil.disk_usage(there).free
        what = "cannot write" if needed is None else f"cannot write {gigabytes(needed)}"
        reason = os.strerror(errno.ENOSPC)
        message = f"{what} to {path}: {reason}. {advice}; free are {gigabytes(free)} in {there}"
        super().__init__(errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def room_for(path: Path, needed: int | None = None, advice: str = ADVICE) -> Iterator[None]:
    """Turn the error of a full disk within the block into one that names the path and the free space.

    Args:
        path: file or folder that is written in the block.
        needed: number of bytes to write; `None` where it is not known before.
        advice: what to do; it ends the message.

    Raises:
        NoRoomError: there is no room.
    """
    try:
        yield
    except NoRoomError:
        raise
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoRoomError(path, needed, advice) from error


@contextmanager
def replacing(
    path: Path, needed: int | None = None, advice: str = ADVICE, ending: str = "part"
) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its place when the block has ended well.

    Args:
        path: the file; its folder is made.
        needed: bytes of the file; `None` where they are not known before.
        advice: what to do where there is no room.
        ending: ending of the temporary name. Several processes that write the file need an ending each; a
            single process writes over the part that it left when it was killed.

    Raises:
        NoRoomError: there is no room. Nothing is left of this file, an earlier one stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a", "b.txt")
        >>> with replacing(path) as part:
        ...     _ = part.write_text("whole")
        >>> [file.name for file in path.parent.iterdir()], path.read_text()
        (['b.txt'], 'whole')
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{ending}")
    try:
        with room_for(path, needed, advice):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, needed: int | None = None) -> Iterator[Path]:
    """Give an empty folder beside `folder`, which takes its place when the block has ended well.

    Args:
        folder: the folder; its parents are made.
        needed: bytes of all its files; `None` where they are not known before.

    Raises:
        NoRoomError: there is no room. Nothing is left of this folder, an earlier one stays.
    """
    with room_for(folder, needed):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            yield new
            if folder.exists():
                os.replace(folder, Path(scratch) / "old")
            os.replace(new, folder)


def gigabytes(n: int) -> str:
    """Return a size for people, in 10^9 bytes.

    Example:
        >>> gigabytes(1_234_567), gigabytes(98_304_000_000)
        ('0.0012 GB', '98 GB')
    """
    return f"{n / 1e9:.2g} GB" if n < 1e11 else f"{n / 1e9:,.0f} GB"


def write_atomic(path: Path, content: bytes, advice: str = ADVICE) -> None:
    """Write under a temporary name beside `path`, then rename; the mode follows the umask.

    Args:
        path: the file.
        content: the whole content.
        advice: what to do where the file cannot be written; it ends the message.

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
    """Delete what killed writers left of the files `name` (a pattern), which no one may be writing now."""
    for path in folder.glob(f".{name}.*.tmp"):
        path.unlink(missing_ok=True)


def writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, or the folder itself where it does not exist yet."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)


def user_path(path: str | Path) -> Path:
    """Return a path that a user gives, with `~` as the home folder.

    It works also where no shell has expanded the path, as in a config.

    Example:
        >>> user_path("~/images") == Path.home() / "images", user_path("images").name
        (True, 'images')
    """
    return Path(path).expanduser()
