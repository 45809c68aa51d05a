"""Images that cannot be decoded: counted, named, and left out."""

import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.data.images.decoding import BadImageError
from lightning_sae.data.images.image_set import ImageSet, listed
from lightning_sae.progress import track


def read_file(path: Path, name: str) -> bytes:
    """Return the bytes of an image file.

    Args:
        path: where it lies.
        name: of the image in the message.

    Raises:
        BadImageError: it is a pipe, a device or a socket, which is never opened: reading could wait for ever.
        OSError: it cannot be read at all, which is not the image's fault.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise BadImageError(f"{name}: {_kind(mode)}, not a file")
    return path.read_bytes()


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


class BadImages:
    """The bad images that a capture has met so far.

    Args:
        images: what is captured.
        limit: how many are left out before it gives up, a count, or a share of the images if below 1.
        found: id -> message of the bad images that are known.

    Raises:
        ValueError: a negative limit.
        BadImageError: there are more than that already.
    """

    def __init__(self, images: ImageSet, limit: float, found: Mapping[int, str]) -> None:
        self.images, self.allowed, self.found = images, allowed_bad_images(limit, len(images)), dict(found)
        self._check()

    def add(self, ids: Sequence[int], faults: Sequence[str]) -> dict[int, str]:
        """Count the images that have a fault (not ""), and return id -> message of these.

        Raises:
            BadImageError: that makes too many. Where none is allowed, every image is decoded to name all.
        """
        new = {image: fault for image, fault in zip(ids, faults, strict=True) if fault}
        self.found |= new
        self._check()
        return new

    def _check(self) -> None:
        if len(self.found) > self.allowed:
            found = find_bad_images(self.images) if self.allowed == 0 else self.found
            messages = list((found or self.found).values())
            raise BadImageError(
                f"{describe_bad_images(messages, len(self.images))}\n"
                f"That is more than the {self.allowed} that data.max_bad_images allows: repair or remove "
                "them, or leave them out with a larger data.max_bad_images (a count, or a share below 1); "
                "what is captured is kept"
            )


def allowed_bad_images(limit: float, total: int) -> int:
    """Return how many of `total` images may be bad: `limit`, or that share of them if it is below 1.

    Raises:
        ValueError: a negative limit.

    Example:
        >>> allowed_bad_images(3, 1000), allowed_bad_images(0.01, 1000)
        (3, 10)
    """
    if limit < 0:
        raise ValueError(f"max_bad_images must be a count >= 0 or a share below 1, got {limit}")
    return min(int(limit if limit >= 1 else limit * total), total - 1)


def find_bad_images(images: ImageSet) -> dict[int, str]:
    """Decode every image once, and return id -> message of the images that fail."""

    def fault(index: int) -> str | None:
        try:
            images[index]
        except BadImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        faults = list(track(pool.map(fault, range(len(images))), "checking images", len(images), "images"))
    return {index: message for index, message in enumerate(faults) if message is not None}


def describe_bad_images(messages: Sequence[str], total: int) -> str:
    """Return a text of how many bad images there are, and the first ten.

    Example:
        >>> print(describe_bad_images(["a.png: truncated"], 20))
        1 of 20 images cannot be read:
          a.png: truncated
    """
    return f"{len(messages)} of {total} images cannot be read:{listed(messages)}"


def check_same_images(folder: Path, bad: Iterable[int], other: Path, bad_there: Iterable[int]) -> None:
    """Refuse two parts of a store whose rows are not of the same images.

    Raises:
        ValueError: other images were bad when the other part was captured.
    """
    if changed := sorted({*bad} ^ {*bad_there}):
        raise ValueError(
            f"{len(changed)} images could be decoded for only one of {folder} and {other}, the first is "
            f"image {changed[0]}: delete both folders and capture again with one version of Pillow"
        )


class GoodImages:
    """An `ImageSet` without its bad images: the others move up, so ids are the rows of the store.

    Args:
        images: all of them.
        bad: ids of those to leave out.
    """

    def __init__(self, images: ImageSet, bad: Sequence[int]) -> None:
        self.all = images
        good = torch.ones(len(images), dtype=torch.bool)
        good[list(bad)] = False
        self.ids = good.nonzero().flatten()
        self.class_names, self.vocabulary = images.class_names, images.vocabulary
        self.targets = images.targets[self.ids]

    @property
    def factors(self) -> dict[str, tuple[list[str], Tensor]]:
        """Known truth about those that are left."""
        return {name: (values, truth[self.ids]) for name, (values, truth) in self.all.factors.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return self.all[int(self.ids[index])]

    def identity(self) -> dict[str, Any]:
        """Return the identity of all images: which are bad follows from it."""
        return self.all.identity()
