"""What files hold, as far as size, both ends and blocks between tell: cheap enough for a million files."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import platformdirs
from numpy.typing import NDArray

from lightning_sae.data.claims import alone
from lightning_sae.data.images.image_set import digest
from lightning_sae.files import remove_temporaries, writable, write_atomic
from lightning_sae.progress import track

BLOCK = 4096  # bytes read at a place
PLACES = 8  # of a file at least
STRIDE = 1 << 20  # bytes between two places of a large file at most
SETTLED = 2_000_000_000  # ns: some file systems count time in steps of two seconds
KEY = ["inode", "size", "mtime", "ctime"]
KNOWN = np.dtype([*((name, np.int64) for name in KEY), ("content", "S64")])
CHUNK = 256  # files that a thread takes at a time
T = TypeVar("T")
Known = NDArray[np.void]


def content_hashes(root: str | Path, paths: Sequence[str]) -> list[str]:
    """Return a SHA-256 for each file: of its size, its first and last 4 KiB, and blocks of 4 KiB between.

    There are eight blocks, or one per MiB where that is more, evenly spaced; a file of up to eight blocks is
    read whole. A change that lies only between two blocks goes unseen. Hashes are kept in the user's cache
    folder by inode, size and times of change, so that a file is read again only if one of these has changed;
    where that folder cannot be written, all files are read every time.

    Args:
        root: where the paths start.
        paths: of the files.

    Raises:
        OSError: a file is gone, or cannot be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, content in {"a": b"cat", "b": b"dog", "c": b"cat"}.items():
        ...     _ = (root / name).write_bytes(content)
        >>> a, b, c = content_hashes(root, ["a", "b", "c"])
        >>> a == b, a == c
        (False, True)
    """
    root = Path(root)
    files = [os.path.join(root, path) for path in paths]
    folder = platformdirs.user_cache_path("lightning_sae") / "contents"
    cache = folder / f"{digest(str(root.resolve()))[:16]}.npy"
    found = _look_up(files, _read(cache))
    if not all(found["content"]) and not writable(folder):
        _fill(files, found)
    elif not all(found["content"]):
        with alone(cache.with_suffix(".lock"), f"reading the files in {root}"):
            known = _read(cache)  # another process may have been at it
            found = _look_up(files, known)
            _fill(files, found)
            remove_temporaries(folder, cache.name)
            _write(cache, _merged(known, found))
    return [content.decode() for content in found["content"].tolist()]


def content_hash(file: str | Path) -> str:
    """Return the hash of one file, read anew; an irregular one, such as a pipe, is known by its kind."""
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
        return hashlib.sha256(f"kind {stat.S_IFMT(status.st_mode)}".encode()).hexdigest()
    found = hashlib.sha256(f"{status.st_size} ".encode())
    with open(file, "rb", buffering=0) as content:
        for start, length in _blocks(status.st_size):
            found.update(os.pread(content.fileno(), length, start))
    return found.hexdigest()


def _blocks(size: int) -> list[tuple[int, int]]:
    """Return the start and length of each block that is read of a file.

    Example:
        >>> _blocks(100)
        [(0, 100)]
        >>> [start for start, _ in _blocks(4096 * 15)]
        [0, 8192, 16384, 24576, 32768, 40960, 49152, 57344]
    """
    places = max(PLACES, size // STRIDE)
    if size <= places * BLOCK:
        return [(0, size)]
    return [((size - BLOCK) * i // (places - 1), BLOCK) for i in range(places)]


def _look_up(files: Sequence[str], known: Known) -> Known:
    """Return the inode, size, times and, where it is known, the hash of each file."""
    found = np.zeros(len(files), KNOWN)
    found[KEY] = [status for part in _in_threads(files, _status) for status in part]
    if len(known):
        places = np.searchsorted(known["inode"], found["inode"]).clip(max=len(known) - 1)
        same = known[KEY][places] == found[KEY]
        found["content"][same] = known["content"][places[same]]
    return found


def _status(file: str) -> tuple[int, int, int, int]:
    status = os.stat(file)
    inode = status.st_ino & (2**63 - 1)  # some file systems use all 64 bits
    return inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _fill(files: Sequence[str], found: Known) -> None:
    """Read the files whose hash is missing."""
    missing = np.flatnonzero(found["content"] == b"")
    parts = _in_threads([files[i] for i in missing.tolist()], content_hash)
    chunks = -(-len(missing) // CHUNK)
    # what commands print stays alone on stdout
    for i, hashes in enumerate(track(parts, "reading files", chunks, stderr=True)):
        found["content"][missing[i * CHUNK :][: len(hashes)]] = hashes


def _in_threads(files: Sequence[str], look: Callable[[str], T]) -> Iterator[list[T]]:
    """Look at each file; a list for each `CHUNK` of them, in order."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda chunk: [look(file) for file in chunk], chunks)


def _merged(known: Known, found: Known) -> Known:
    """Return the entries to keep, by inode, without files just written, which may still change unseen."""
    settled = found[found["ctime"] < time.time_ns() - SETTLED]
    kept = np.concatenate([settled, known[~np.isin(known["inode"], found["inode"])]])
    return kept[np.unique(kept["inode"], return_index=True)[1]]


def _read(cache: Path) -> Known:
    if not cache.exists():
        return np.zeros(0, KNOWN)
    try:
        known: Known = np.load(cache, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{cache} is damaged ({error}): delete it, it is made anew") from error
    return known


def _write(cache: Path, known: Known) -> None:
    content = BytesIO()
    np.save(content, known, allow_pickle=False)
    write_atomic(cache, content.getvalue())
