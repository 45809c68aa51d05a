"""Images that a data set has twice: dealt into one split, and counted where they stand in two."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lightning_sae.data.images.decoding import BadImageError
from lightning_sae.data.images.image_set import ImageSet, Split, listed

Rows = NDArray[np.int64]


@runtime_checkable
class KnownImages(ImageSet, Protocol):
    """An `ImageSet` whose images are files that can be told apart without being decoded."""

    def encoded(self, index: int) -> tuple[bytes | None, str]:
        """Return the file of an image, and what it is called in messages."""
        ...

    def contents(self) -> Sequence[str] | None:
        """Return a hash of each image's file, the same for copies; "" for none, `None` where it is not known.

        It need not see all of a file: different images may share it.
        """
        ...


def keep_copies_together(parts: Mapping[Split, Rows], images: KnownImages) -> dict[Split, Rows]:
    """Move every image whose first copy is dealt to another split into the split of that copy.

    Only files whose hashes are in several splits are read.

    Args:
        parts: indices of the images of each split, ascending; all of `0..n-1`.
        images: the `n` images.

    Returns:
        The same with every set of copies in one split.
    """
    of_image = np.empty(sum(map(len, parts.values())), dtype=np.int64)
    for number, part in enumerate(parts.values()):
        of_image[part] = number
    alike: dict[str, list[int]] = {}
    for i, content in enumerate(images.contents() or ()):
        if content:
            alike.setdefault(content, []).append(i)
    apart = [rows for rows in alike.values() if len({*of_image[rows].tolist()}) > 1]
    first: dict[bytes, int] = {}
    for i, whole in _whole_files(images, chain.from_iterable(apart)):
        of_image[i] = of_image[first.setdefault(whole, i)]
    return {split: np.flatnonzero(of_image == number) for number, split in enumerate(parts)}


def check_leaks(splits: Mapping[Split, ImageSet], limit: float) -> None:
    """Count images whose file an earlier split has as well; warn of a few, and refuse more than `limit`.

    Args:
        splits: in the order train, val, test; images that are no files are not looked at.
        limit: how many images of a split may be in a split before it, a count, or a share below 1.

    Raises:
        ValueError: there are more; or a negative limit.
    """
    if limit < 0:
        raise ValueError(f"data.max_leaks must be a count >= 0 or a share below 1, got {limit}")
    known = {split: images for split, images in splits.items() if isinstance(images, KnownImages)}
    for (split, images), (other, others) in combinations(known.items(), 2):
        lines = _leaks(images, others)
        if not lines:
            continue
        text = f"{len(lines)} of {len(others)} {other} images are in {split} as well:{listed(lines)}"
        if len(lines) > (limit if limit >= 1 else limit * len(others)):
            raise ValueError(
                f"{text}\nWhat is measured on them is no held-out measure. Take them out of one split, or "
                "allow them with a larger data.max_leaks (a count, or a share below 1)"
            )
        warnings.warn(text, stacklevel=3)


def _leaks(images: KnownImages, others: KnownImages) -> list[str]:
    """Return the names of `others` that `images` has too; equal files that are no images do not count."""
    contents, others_contents = images.contents() or (), others.contents() or ()
    shared = {*contents} & {*others_contents} - {""}
    first: dict[bytes, int] = {}
    for i, whole in _whole_files(images, (i for i, content in enumerate(contents) if content in shared)):
        first.setdefault(whole, i)
    found = _whole_files(others, (j for j, content in enumerate(others_contents) if content in shared))
    pairs = [(first[whole], j) for j, whole in found if whole in first and _is_image(others, j)]
    names = [(images.encoded(i)[1], others.encoded(j)[1]) for i, j in pairs]
    return [name if name == own else f"{name} is {own}" for own, name in names]


def _whole_files(images: KnownImages, rows: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield each of some images that can be read, and a hash of all of its file."""
    for row in rows:
        try:
            content = images.encoded(row)[0]
        except BadImageError:
            continue
        yield row, hashlib.sha256(content or b"").digest()


def _is_image(images: ImageSet, index: int) -> bool:
    try:
        images[index]
    except BadImageError:
        return False
    return True
