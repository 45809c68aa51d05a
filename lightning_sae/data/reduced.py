"""Large JPEG files decoded at a fraction of their size, for CLIPs that take small images."""

from typing import Any, Protocol, runtime_checkable

from PIL import Image

from lightning_sae.data.bad_images import decode
from lightning_sae.data.images import Factors, ImageSet

ENOUGH = 2
"""Of the size that CLIP takes: what is decoded has at least so much of it, in both directions."""


@runtime_checkable
class EncodedImages(ImageSet, Protocol):
    """An `ImageSet` whose images are files."""

    def encoded(self, index: int) -> tuple[bytes | None, str]:
        """The file of an image, `None` where there is none, and what it is called in messages."""
        ...


class ReducedImages:
    """The same images, less exactly and faster: `data.decode=fast`.

    A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size where that is still at least twice what CLIP takes;
    CLIP's own preprocessing then resizes what is left. Other files are decoded as ever.

    Args:
        images: these.
        size: height and width that CLIP takes (`Clip.image_size`).

    Raises:
        ValueError: the images are no files.
    """

    def __init__(self, images: ImageSet, size: tuple[int, int]) -> None:
        if not isinstance(images, EncodedImages):
            raise ValueError(
                "data.decode=fast reads JPEG files at a fraction of their size, and "
                f"{images.identity()['name']} has no files: take data.decode=exact"
            )
        self.images, self.at_least = images, (ENOUGH * size[1], ENOUGH * size[0])
        self.class_names, self.targets = images.class_names, images.targets
        self.vocabulary = images.vocabulary

    @property
    def factors(self) -> Factors:
        """Known truth."""
        return self.images.factors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(*self.images.encoded(index), self.at_least)

    def identity(self) -> dict[str, Any]:
        """That of the images, and that they are decoded otherwise: their activations differ."""
        return {**self.images.identity(), "decode": "fast"}
