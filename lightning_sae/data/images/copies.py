"""Images that a data set has twice: dealt into one split, and counted where they stand in two."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
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
        """The file of an image, and what it is called in messages."""
        ...

    def contents(self) -> Sequence[str] | None:
        """A hash of each image's file, the same for copies; "" for none, `None` where it is not known."""
        ...


def keep_copies_together(parts: Mapping[Split, Rows], contents: Sequence[str]) -> dict[Split, Rows]:
    """Moves images that are dealt to other splits than their first copy into its split.

    Args:
        parts: indices of the images of each split, ascending; all of `0..n-1`.
        contents: `n` hashes, the same for copies; "" is a copy of none.

    Returns:
        The same with every set of copies in one split.

    Example:
        >>> parts = {"train": np.array([0, 2, 3]), "val": np.array([1, 4])}
        >>> {split: rows.tolist() for split, rows in keep_copies_together(parts, [*"abcba"]).items()}
        {'train': [0, 2, 4], 'val': [1, 3]}
    """
    first: dict[str, int] = {}
    origin = [first.setdefault(content, i) if content else i for i, content in enumerate(contents)]
    splits = [*parts]
    of_image = np.empty(len(contents), dtype=np.int64)
    for number, split in enumerate(splits):
        of_image[parts[split]] = number
    of_image = of_image[np.array(origin, dtype=np.int64)]
    return {split: np.flatnonzero(of_image == number) for number, split in enumerate(splits)}


def check_leaks(splits: Mapping[Split, ImageSet], limit: float) -> None:
    """Counts images of a split whose file another split has as well; warns of some, refuses more.

    Args:
        splits: in the order train, val, test; images that are no files are not looked at.
        limit: how many of a split may be in one before it, a count, or a share of its images below 1.

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
    contents, others_contents = images.contents(), others.contents()
    if contents is None or others_contents is None:
        return []
    places: dict[str, list[int]] = {}
    wanted = {content for content in others_contents if content}
    for i, content in enumerate(contents):
        if content in wanted:
            places.setdefault(content, []).append(i)
    pairs = ((j, places[content]) for j, content in enumerate(others_contents) if content in places)
    return [line for j, candidates in pairs if (line := _copy_among(images, candidates, others, j))]


def _copy_among(images: KnownImages, candidates: Sequence[int], others: KnownImages, other: int) -> str:
    """Names the first image of the very same bytes, if one has them: hashes need not see all of them.

    Files that are no images are often alike, and are none of both.
    """
    try:
        others[other]
        content, name = others.encoded(other)
        known = (images.encoded(i) for i in candidates)
        return next(
            (f"{name} is {own}" if name != own else name for found, own in known if found == content), ""
        )
    except BadImageError:
        return ""
