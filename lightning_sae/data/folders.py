"""A folder of images with one subfolder per class."""

import os
from pathlib import Path

from lightning_sae.data.files import ImageFile, ImageFiles
from lightning_sae.data.images import Split
from lightning_sae.data.splits import SPLITS, check_fractions, stratified_split

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


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

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: fractions out of range, or folders that do not fit together.
    """

    def __init__(
        self, root: str | Path, val_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
    ) -> None:
        fractions = check_fractions(val_fraction, test_fraction)
        self.root = Path(root).expanduser()
        folders = _split_folders(self.root)
        classes = _subfolders(folders["train"])
        self.class_names = [name.replace("_", " ") for name in classes]
        files = {split: _list_images(self.root, folder, classes) for split, folder in folders.items()}
        missing = {split: share for split, share in fractions.items() if split not in files}
        train = files["train"]
        dealt = stratified_split([file.path for file in train], [file.label for file in train], missing, seed)
        self._files = files | {split: sorted(train[i] for i in part) for split, part in dealt.items()}

    def split(self, name: Split) -> ImageFiles:
        """The images of one split."""
        if not self._files[name]:
            raise ValueError(
                f"the {name} split of {self.root} is empty: raise data.{name}_fraction or add images"
            )
        label = f"{self.root.resolve().name}-{name}"
        return ImageFiles(self.root, self._files[name], self.class_names, label)


def _split_folders(root: Path) -> dict[Split, Path]:
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
