"""What a data set must offer, and what every source of images here has in common."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from PIL import Image
from torch import Tensor

from lightning_sae.trust.control_characters import visible

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
        """Return the image in RGB; `BadImageError` where it cannot be decoded."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what makes these images what they are, as JSON for the store's fingerprint.

        The entry `name` names the store's folder.
        """
        ...


class ImageSource(Protocol):
    """A data set with its three splits."""

    def split(self, name: Split) -> ImageSet:
        """Return the images of one split."""
        ...


Factors = Mapping[str, tuple[list[str], Tensor]]


class LabelledImages:
    """Classes, targets and whatever else is known: the common part of an `ImageSet`.

    Args:
        class_names: names of the classes.
        targets: `[n]` int64, class of each image, -1 where unknown.
        factors: factor -> (its values, `[n]` int64 index into them, -1 for none).
        captions: of each image, "" for none, or empty: also labels worth trying beside the classes' names.
    """

    def __init__(
        self,
        class_names: list[str],
        targets: Tensor,
        factors: Factors | None = None,
        captions: Sequence[str] = (),
    ) -> None:
        self.class_names, self.targets = class_names, targets
        self.factors: Factors = factors or {}
        self.captions = list(captions)
        self.vocabulary = list(dict.fromkeys([*class_names, *filter(None, captions)]))

    def __len__(self) -> int:
        return len(self.targets)


def known_factors(images: ImageSet) -> dict[str, tuple[list[str], Tensor]]:
    """Return what is known of each image: factor -> (its values, `[n]` int64 index into them, -1 for none).

    The class is added as a factor if the data have no factor `class` and any image has a class.
    """
    factors = dict(images.factors)
    if "class" not in factors and bool((images.targets >= 0).any()):
        factors["class"] = (images.class_names, images.targets)
    return factors


def captions_of(images: ImageSet) -> list[str]:
    """Return the caption of each image, "" for none; empty where the data have no captions.

    Example:
        >>> import torch
        >>> captions_of(LabelledImages(["cat"], torch.tensor([0]), captions=["a cat"]))
        ['a cat']
    """
    return [str(caption) for caption in getattr(images, "captions", ())]


def listed(lines: Sequence[str]) -> str:
    """Return the first ten lines, and how many more there are; control characters are written out.

    Example:
        >>> print("lost:" + listed(["a.png", "b.png"]))
        lost:
          a.png
          b.png
    """
    more = f"\n  ... and {len(lines) - 10} more" if len(lines) > 10 else ""
    return "".join(f"\n  {visible(line)}" for line in lines[:10]) + more


def digest(value: Any) -> str:
    """Return SHA-256 of a JSON value, independent of the order of keys.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
