"""The image files below a folder, each once, whatever links lead to it."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lightning_sae.data.images.decoding import image_endings, is_image

JUNK = {
    *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "#snapshot", "~snapshot", "lost+found"),
    *("system volume information", "__pycache__", "thumbnails"),
}
"""Folders that systems leave among those of users, in lower case."""

Inode = tuple[int, int]
endings = cache(image_endings)


class FoundFile(NamedTuple):
    """A file: where it was met, what it is on the disk, its size in bytes."""

    path: Path
    inode: Inode
    size: int


class Walk(NamedTuple):
    """The files and folders below a folder.

    Attributes:
        images: files that are called as images are, or that Pillow knows if they have no ending, by path.
        others: the other files, by path.
    """

    images: list[FoundFile]
    others: list[Path]


def walk_images(folder: Path, known: frozenset[Inode]) -> Walk:
    """Walk through a folder and the links in it, but never through a folder twice.

    Args:
        folder: where it starts.
        known: folders that are not entered, those above it (`above`).

    Raises:
        OSError: a folder or file cannot be read, or a link leads nowhere; none if `folder` is not there.
    """
    images, others = list[FoundFile](), list[Path]()
    for path in _files(folder, {*known}):
        if _is_image(path):
            status = _status(path)
            images.append(FoundFile(path, (status.st_dev, status.st_ino), status.st_size))
        else:
            others.append(path)
    return Walk(sorted(images), sorted(others))


def any_image(folder: Path, known: frozenset[Inode]) -> bool:
    """Tell if a walk through a folder meets an image."""
    return any(map(_is_image, _files(folder, {*known})))


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, but those that are hidden or left by systems."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and _counts(entry.name))


def loose_images(folder: Path) -> int:
    """Count the files directly in a folder that are called as images are."""
    with os.scandir(folder) as entries:
        return sum(_counts(entry.name) and Path(entry.name).suffix.lower() in endings() for entry in entries)


def above(folder: Path) -> frozenset[Inode]:
    """Return a folder and all above it: a link to one of them leads in circles."""
    real = folder.resolve()
    return frozenset(_inode(each) for each in (real, *real.parents))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in endings() or (not path.suffix and path.is_file() and is_image(path))


def _files(folder: Path, entered: set[Inode]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a class that a split lacks
            raise error

    entered |= {_inode(folder)} if folder.exists() else set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        inside = [Path(parent, name) for name in sorted(folders) if _counts(name)]
        new = {_inode(each): each.name for each in reversed(inside)}  # of two links the first
        folders[:] = sorted(name for inode, name in new.items() if inode not in entered)
        entered |= new.keys()
        yield from (Path(parent, name) for name in names if _counts(name))


def _counts(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in JUNK


def _inode(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is a link to a file that is not there: fetch the file, or remove the link"
        ) from error
