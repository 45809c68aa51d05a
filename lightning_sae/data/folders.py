"""A folder of images with one subfolder per class."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import platformdirs
import torch
from PIL import Image

from lightning_sae.data.atomic import write_atomic
from lightning_sae.data.images import (
    BadImageError,
    LabelledImages,
    Split,
    describe_bad_images,
    digest,
    find_bad_images,
)

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class ImageFile(NamedTuple):
    """One file: path relative to the root (with `/`), size in bytes, class index."""

    path: str
    size: int
    label: int


class FolderImages(LabelledImages):
    """Image files, read on demand."""

    def __init__(
        self,
        root: Path,
        files: Sequence[ImageFile],
        class_names: list[str],
        split: str,
        skipped: Sequence[str],
    ) -> None:
        super().__init__(class_names, torch.tensor([file.label for file in files], dtype=torch.int64))
        self.root, self.files, self.name, self.skipped = root, files, split, list(skipped)

    def __getitem__(self, index: int) -> Image.Image:
        """The image in RGB; `BadImageError` names the file that cannot be decoded."""
        path = self.root / self.files[index].path
        try:
            with Image.open(path) as file:
                return file.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all three on damaged files
            raise BadImageError(f"{path}: {error}") from error

    def identity(self) -> dict[str, Any]:
        """Names, sizes and classes of the files, but not where the folder lies."""
        return {
            "name": f"{self.root.resolve().name}-{self.name}",
            "classes": digest(self.class_names),
            "files": digest(self.files),
            "images": len(self),
            "skipped": self.skipped,
        }


class ImageFolders:
    """`root/CLASS/*` split by a hash of each path, or `root/{train,val,test}/CLASS/*` as it stands.

    Classes are the subfolders in sorted order; underscores in their names are read as spaces. A split without
    a folder of its own is taken from the train images by class, in the order of a hash of seed and path,
    so that which images are held out does not depend on the machine or on the order of listing.

    Args:
        root: the folder.
        val_fraction: share of each class that becomes `val`, in [0, 1).
        test_fraction: share of each class that becomes `test`, in [0, 1).
        seed: another seed holds out other images.
        on_bad_image: `raise` stops at a file that cannot be decoded and names all of them; `skip` decodes
            every file once beforehand, leaves the bad ones out, and warns.
        cache_dir: where `skip` remembers what it found; the user's cache folder by default.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: fractions out of range, or folders that do not fit together.
    """

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        on_bad_image: Literal["raise", "skip"] = "raise",
        cache_dir: str | Path | None = None,
    ) -> None:
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise ValueError(
                f"val_fraction and test_fraction must be >= 0 and sum to less than 1, got {val_fraction} and "
                f"{test_fraction}"
            )
        if on_bad_image not in ("raise", "skip"):
            raise ValueError(f"on_bad_image must be raise or skip, got {on_bad_image!r}")
        self.root = Path(root).expanduser()
        folders = _split_folders(self.root)
        classes = _subfolders(folders["train"])
        self.class_names = [name.replace("_", " ") for name in classes]
        files = {split: _list_images(self.root, folder, classes) for split, folder in folders.items()}
        self.skipped: dict[str, list[str]] = {split: [] for split in files}
        if on_bad_image == "skip":
            cache = Path(cache_dir or platformdirs.user_cache_path("lightning_sae"))
            for split in files:
                files[split], self.skipped[split] = self._without_bad(files[split], cache)
        fractions = {"val": val_fraction, "test": test_fraction}
        missing = {split: share for split, share in fractions.items() if split not in files}
        self._files = files | stratified_split(files["train"], missing, seed)

    def split(self, name: Split) -> FolderImages:
        """The images of one split."""
        if not self._files[name]:
            raise ValueError(
                f"the {name} split of {self.root} is empty: raise data.{name}_fraction or add images"
            )
        skipped = self.skipped.get(name, self.skipped["train"])
        return FolderImages(self.root, self._files[name], self.class_names, name, skipped)

    def _without_bad(self, files: list[ImageFile], cache: Path) -> tuple[list[ImageFile], list[str]]:
        record = cache / f"bad-images-{digest([self.root.resolve().name, files])[:16]}.json"
        if not record.exists():
            bad = find_bad_images(FolderImages(self.root, files, self.class_names, "all", []))
            cache.mkdir(parents=True, exist_ok=True)
            write_atomic(record, json.dumps({files[i].path: text for i, text in bad.items()}).encode())
        skipped: dict[str, str] = json.loads(record.read_bytes())
        if skipped:
            warnings.warn(f"skipped: {describe_bad_images(list(skipped.values()), len(files))}", stacklevel=3)
        return [file for file in files if file.path not in skipped], list(skipped)


def stratified_split(
    files: Sequence[ImageFile], fractions: Mapping[str, float], seed: int
) -> dict[str, list[ImageFile]]:
    """Deals the files of each class, ordered by a hash of their paths, to `fractions`, the rest to `train`.

    A class of three or more images gives at least one to every split of positive share.

    Example:
        >>> files = [ImageFile(f"cat/{i}.png", 1, 0) for i in range(10)]
        >>> {name: len(part) for name, part in stratified_split(files, {"val": 0.2}, seed=0).items()}
        {'train': 8, 'val': 2}
    """
    parts: dict[str, list[ImageFile]] = {"train": [], **{name: [] for name in fractions}}
    by_class: dict[int, list[ImageFile]] = {}
    for file in files:
        by_class.setdefault(file.label, []).append(file)
    for members in by_class.values():
        members.sort(key=lambda file: hashlib.sha256(f"{seed}:{file.path}".encode()).digest())
        start = 0
        for name, share in fractions.items():
            stop = start + max(round(share * len(members)), int(share > 0 and len(members) >= 3))
            parts[name] += members[start:stop]
            start = stop
        parts["train"] += members[start:]
    return {name: sorted(part, key=lambda file: file.path) for name, part in parts.items()}


def _split_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root}: data.root must be a folder with one subfolder of images per class"
        )
    names = _subfolders(root)
    if "train" in names and set(names) <= set(SPLITS):
        return {split: root / split for split in SPLITS if split in names}
    return {"train": root}


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{folder} has no subfolders: expected one per class, with images inside")
    return names


def _list_images(root: Path, folder: Path, classes: list[str]) -> list[ImageFile]:
    if unknown := [name for name in _subfolders(folder) if name not in classes]:
        raise ValueError(f"{folder} has classes that the train images lack: {', '.join(unknown[:10])}")
    files = [
        ImageFile(path.relative_to(root).as_posix(), path.stat().st_size, label)
        for label, name in enumerate(classes)
        for path in _walk(folder / name)
    ]
    if not files:
        raise FileNotFoundError(
            f"no images in the subfolders of {folder}: looked for {', '.join(EXTENSIONS)}"
        )
    return files


def _walk(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a class that this split lacks
            raise error

    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
    return sorted(found)
