"""A folder of images with one subfolder per class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.class_names import readable
from lightning_sae.data.images.copies import keep_copies_together
from lightning_sae.data.images.image_files import ImageFile, ImageFiles
from lightning_sae.data.images.image_set import Split
from lightning_sae.data.sources.columns import Column, class_names, close_to, known_classes
from lightning_sae.data.sources.folders.members import Member, each_once, read_members
from lightning_sae.data.sources.folders.split_folders import find_split_folders
from lightning_sae.data.sources.given_classes import Classes, given_classes
from lightning_sae.data.sources.splits import check_fractions, stratified_split
from lightning_sae.trust.control_characters import warn


class ImageFolders:
    """`root/CLASS/*` split by a hash of each path, or `root/{train,val,test}/CLASS/*` as it stands.

    Classes are the subfolders with images, in natural order; underscores in their names are read as spaces,
    and folders that are then called the same are one class. A split without a folder of its own is taken from
    the train images by class, in the order of a hash of seed and path, so that which images are held out does
    not depend on the machine or on the order of listing. Each file counts once, whatever links lead to it.

    Args:
        root: the folder.
        val_fraction: share of each class that becomes `val`, in [0, 1).
        test_fraction: share of each class that becomes `test`, in [0, 1).
        seed: another seed holds out other images.
        classes: what the folders are called, as for a column of a table (`Names`), or a file that says it;
            `None` takes their names, and for ImageNet's WordNet ids the names of open_clip.
        names_of_splits: split -> its folder; empty if no folder is a split; `None` knows train, val, valid,
            validation, test and such, in any case.

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
        classes: Classes | str | Path = None,
        names_of_splits: Mapping[str, Any] | None = None,
    ) -> None:
        fractions = check_fractions(val_fraction, test_fraction)
        self.root, given = Path(root).expanduser(), given_classes(classes)
        folders = find_split_folders(self.root, names_of_splits)
        found = each_once(self.root, {split: read_members(folder) for split, folder in folders.items()})
        columns = {split: _column(members, folders[split]) for split, members in found.items()}
        given = known_classes(given, columns["train"])
        self.class_names = class_names(columns["train"], given)
        if not given:
            _check_classes(folders, columns)
        labels = {
            split: column.indices(self.class_names, given, str(folders[split])).tolist()
            for split, column in columns.items()
        }
        files = {split: _files(self.root, members, labels[split]) for split, members in found.items()}
        missing = {split: share for split, share in fractions.items() if split not in files}
        self._files = files | (self._dealt(files["train"], missing, seed) if missing else {})

    def split(self, name: Split) -> ImageFiles:
        """Return the images of one split."""
        if not self._files[name]:
            raise ValueError(
                f"the {name} split of {self.root} is empty: raise data.{name}_fraction or add images"
            )
        return self._images(self._files[name], name)

    def _images(self, files: Sequence[ImageFile], name: Split) -> ImageFiles:
        return ImageFiles(self.root, files, self.class_names, f"{self.root.resolve().name}-{name}")

    def _dealt(
        self, files: Sequence[ImageFile], fractions: Mapping[Split, float], seed: int
    ) -> dict[Split, list[ImageFile]]:
        labels = [file.label for file in files]
        parts = stratified_split([file.path for file in files], labels, fractions, seed)
        parts = keep_copies_together(parts, self._images(files, "train"))
        return {split: sorted(files[i] for i in part) for split, part in parts.items()}


def _check_classes(folders: Mapping[Split, Path], columns: Mapping[Split, Column]) -> None:
    """Refuse classes that the train images lack.

    Raises:
        ValueError: names them.
    """
    known = {*map(readable, columns["train"].values)}
    for split, column in columns.items():
        others = [name for name in column.values if readable(name) not in known]
        if unknown := [f"{name}{close_to(name, known)}" for name in others]:
            raise ValueError(
                f"{folders[split]} has classes that the train images lack: {', '.join(unknown[:10])}"
            )


def _column(members: Sequence[Member], where: Path) -> Column:
    """Return the folders of the classes, as a column; one whose name is blank is none."""
    folders = sorted({member.folder for member in members})
    place = {folder: i for i, folder in enumerate(filter(readable, folders))}
    if blank := [repr(folder) for folder in folders if folder not in place]:
        warn(f"the images in {', '.join(blank)} of {where} have no class: the name is blank", stacklevel=3)
    return Column([*place], np.array([place.get(member.folder, -1) for member in members], dtype=np.int64))


def _files(root: Path, members: Sequence[Member], labels: Sequence[int]) -> list[ImageFile]:
    paths = (member.file.path.relative_to(root).as_posix() for member in members)
    sizes = (member.file.size for member in members)
    return sorted(ImageFile(*each) for each in zip(paths, sizes, labels, strict=True))


def image_folder(
    root: str,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    classes: Classes | str = None,
    split_names: Mapping[str, Any] | None = None,
    **activations: Any,
) -> ActivationDataModule:
    """Return the datamodule of `ImageFolders`; `activations` are the arguments of `ActivationDataModule`."""
    images = ImageFolders(root, val_fraction, test_fraction, split_seed, classes, split_names)
    return ActivationDataModule(images, **activations)
