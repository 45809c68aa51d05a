"""Which folders are splits, and which are classes."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_sae.data.images.image_set import Split, listed
from lightning_sae.data.sources.columns import split_names
from lightning_sae.data.sources.folders.walk import above, any_image, loose_images, subfolders
from lightning_sae.data.sources.splits import split_of
from lightning_sae.trust.control_characters import warn


def find_split_folders(root: Path, names: Mapping[str, Any] | None = None) -> dict[Split, Path]:
    """Return the folder of each split that a data set has; where it has none, `train` is all of it.

    A folder that holds nothing but one further folder of folders, as an archive leaves it, is entered, and so
    are the folders of splits if each is such.

    Args:
        root: the folder.
        names: split -> name of its folder, others are left out; empty if no folder is a split; `None` knows
            the usual names (`splits.ALIASES`).

    Raises:
        FileNotFoundError: no such folder, or none in it.
        ValueError: splits and classes side by side, several folders for one split, none for train, or folders
            that all hold the same ones.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root}: data.root must be a folder with one subfolder of images per class"
        )
    folders = class_folders(root)
    if names is not None:
        found = split_names(names, folders, str(root)) if names else {}
        return _entered({split: root / name for split, name in found.items()}) if found else {"train": root}
    if any(map(split_of, folders)):
        found = split_names(None, folders, str(root))
        _refuse_mixture(root, found, [name for name in folders if name not in found.values()])
        return _entered({split: root / name for split, name in found.items()})
    if inner := _only_folder(root, folders):
        warn(f"the classes are taken from {inner}, the only folder in {root}", stacklevel=4)
        return find_split_folders(inner)
    _refuse_splits_in_classes(root, folders)
    _refuse_equal_folders(root, folders)
    return {"train": root}


def class_folders(folder: Path) -> list[str]:
    """Return the folders in a folder.

    Raises:
        FileNotFoundError: there are none.
    """
    if names := subfolders(folder):
        return names
    raise FileNotFoundError(
        f"{folder} has no subfolders: expected one per class, with images inside. If it is a split without "
        "classes, leave it out: 'data.split_names={train: NAME}' takes the others from train"
    )


def _refuse_mixture(root: Path, found: Mapping[Split, str], others: Sequence[str]) -> None:
    if others := [name for name in others if any_image(root / name, above(root))]:
        splits = ", ".join(f"{split}: {name}" for split, name in found.items())
        raise ValueError(
            f"{root} has folders of splits ({', '.join(found.values())}) and {len(others)} others:"
            f"{listed(others)}\nIf these are to be left out, say 'data.split_names={{{splits}}}'; if all "
            "folders are classes, 'data.split_names={}'"
        )


def _entered(folders: dict[Split, Path]) -> dict[Split, Path]:
    """Return the only folders in the folders of splits, such as `images`, where each split has one."""
    inner = {split: _only_folder(folder, class_folders(folder)) for split, folder in folders.items()}
    found = {split: folder for split, folder in inner.items() if folder}
    if len(found) < len(folders):
        return folders
    warn(f"the classes are taken from:{listed([str(folder) for folder in found.values()])}", stacklevel=5)
    return _entered(found)


def _only_folder(root: Path, folders: Sequence[str]) -> Path | None:
    """Return the only folder with images in a folder, if its images all lie in subfolders."""
    full = list(islice((root / name for name in folders if any_image(root / name, above(root))), 2))
    if len(full) == 1 and subfolders(full[0]) and not loose_images(full[0]):
        return full[0]
    return None


def _refuse_splits_in_classes(root: Path, folders: Sequence[str]) -> None:
    inside = {name: [each for each in subfolders(root / name) if split_of(each)] for name in folders}
    if lines := [f"{name}: {', '.join(splits)}" for name, splits in inside.items() if len(splits) > 1]:
        raise ValueError(
            f"{len(lines)} classes of {root} have folders of splits in them:{listed(lines)}\nLay the splits "
            "above the classes, as train/CLASS and val/CLASS; or 'data.split_names={}' deals all of them"
        )


def _refuse_equal_folders(root: Path, folders: Sequence[str]) -> None:
    full = [name for name in folders if any_image(root / name, above(root))]
    inside = {tuple(subfolders(root / name)) for name in full}
    if len(full) > 1 and len(inside) == 1 and len(names := inside.pop()) > 1:
        raise ValueError(
            f"{len(full)} folders of {root} all have the folders {', '.join(names[:10])} in them, as splits "
            f"have classes:{listed(full)}\nName splits with 'data.split_names={{train: NAME, val: NAME}}'; "
            "if they are classes, say 'data.split_names={}'"
        )
