"""The image files in the folders of classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_sae.data.images.class_names import readable
from lightning_sae.data.images.image_set import Split, listed
from lightning_sae.data.sources.folders.split_folders import class_folders
from lightning_sae.data.sources.folders.walk import (
    FoundFile,
    Inode,
    above,
    endings,
    loose_images,
    walk_images,
)
from lightning_sae.trust.control_characters import warn


class Member(NamedTuple):
    """An image file, and the folder of a class that it lies in."""

    folder: str
    file: FoundFile


def read_members(folder: Path) -> list[Member]:
    """Return the images of a split, by folder and path; warn of what is left out.

    Raises:
        FileNotFoundError: there are none.
    """
    known = above(folder)
    walks = {name: walk_images(folder / name, known) for name in class_folders(folder)}
    members = [Member(name, file) for name, walk in walks.items() for file in walk.images]
    kinds = Counter(path.suffix.lower() or path.name for walk in walks.values() for path in walk.others)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(10))
    if not members:
        raise FileNotFoundError(
            f"no images in the subfolders of {folder}: looked for {', '.join(endings())}"
            + (f"; there are {counted}" if kinds else "")
        )
    left_out = [f"{kinds.total()} files that Pillow does not read here as images: {counted}"] * bool(kinds)
    if loose := loose_images(folder):
        left_out.append(f"{loose} images that lie in no folder of a class")
    left_out += [f"{name}/, which has no images" for name, walk in walks.items() if not walk.images]
    if left_out:
        warn(f"left out of {folder}:{listed(left_out)}", stacklevel=4)
    return members


def each_once(root: Path, found: Mapping[Split, Sequence[Member]]) -> dict[Split, list[Member]]:
    """Leave out links to files that are found themselves, and files that a class of a split has twice.

    A file that is in several splits or classes by hard links, or by links to a file elsewhere, stays in each
    of them: `check_leaks` counts such files.
    """
    times = Counter(member.file.inode for members in found.values() for member in members)
    real_root = root.resolve()

    def is_link(file: FoundFile) -> bool:
        return file.path.resolve() != real_root / file.path.relative_to(root)

    several = [member.file for part in found.values() for member in part if times[member.file.inode] > 1]
    links = {file.path for file in several if is_link(file)}
    as_itself = {file.inode for file in several if file.path not in links}
    kept, again = {split: list[Member]() for split in found}, list[str]()
    taken = set[tuple[Inode, Split, str]]()
    for split, members in found.items():
        for member in members:
            place = (member.file.inode, split, readable(member.folder))
            if place in taken or (member.file.path in links and member.file.inode in as_itself):
                again.append(member.file.path.relative_to(root).as_posix())
            else:
                taken.add(place)
                kept[split].append(member)
    if again:
        warn(
            f"{len(again)} files of {root} are met again by links, and count once:{listed(again)}",
            stacklevel=3,
        )
    return kept
