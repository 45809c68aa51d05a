"""What a data set must offer, and what every source of images here has in common."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol

from PIL import Image
from rich.progress import track
from torch import Tensor

Split = Literal["train", "val", "test"]


class ImageSet(Protocol):
    """One split of a data set; an image's id is its index here.

    Attributes:
        class_names: names of the classes, as they stand in a prompt.
        targets: `[n]` int64, class of each image, -1 where unknown.
        vocabulary: labels worth trying for a latent.
        factors: known truth, factor -> (its values, `[n]` int64 index into them, -1 for none); may be empty.
    """

    @property
    def class_names(self) -> list[str]:
        """Names of the classes."""
        ...

    @property
    def targets(self) -> Tensor:
        """Class of each image."""
        ...

    @property
    def vocabulary(self) -> list[str]:
        """Labels worth trying."""
        ...

    @property
    def factors(self) -> Mapping[str, tuple[list[str], Tensor]]:
        """Known truth."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Image.Image:
        """The image in RGB; `BadImageError` where it cannot be decoded."""
        ...

    def identity(self) -> dict[str, Any]:
        """What makes them these images, as JSON for the store's fingerprint; `name` names its folder."""
        ...


class ImageSource(Protocol):
    """A data set with its three splits."""

    def split(self, name: Split) -> ImageSet:
        """The images of one split."""
        ...


class LabelledImages:
    """Classes and targets, and no further known truth: the common part of an `ImageSet`."""

    def __init__(self, class_names: list[str], targets: Tensor) -> None:
        self.class_names = class_names
        self.targets = targets

    @property
    def vocabulary(self) -> list[str]:
        """The class names."""
        return self.class_names

    @property
    def factors(self) -> dict[str, tuple[list[str], Tensor]]:
        """Nothing but the classes is known."""
        return {}

    def __len__(self) -> int:
        return len(self.targets)


class BadImageError(OSError):
    """An image file that cannot be decoded; the message starts with its path."""


def find_bad_images(images: ImageSet) -> dict[int, str]:
    """Decodes every image once; id -> message of those that fail."""

    def fault(index: int) -> str | None:
        try:
            images[index]
        except BadImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        faults = list(
            track(pool.map(fault, range(len(images))), "checking images", total=len(images), transient=True)
        )
    return {index: message for index, message in enumerate(faults) if message is not None}


def describe_bad_images(messages: list[str], total: int) -> str:
    """Counts the bad images and names the first ten.

    Example:
        >>> print(describe_bad_images(["a.png: truncated"], 20))
        1 of 20 images cannot be read:
          a.png: truncated
    """
    shown = "".join(f"\n  {message}" for message in messages[:10])
    more = f"\n  ... and {len(messages) - 10} more" if len(messages) > 10 else ""
    return f"{len(messages)} of {total} images cannot be read:{shown}{more}"


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
