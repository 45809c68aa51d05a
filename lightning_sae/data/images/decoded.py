"""Images decoded by other settings: JPEG files at a fraction of their size, another background."""

from typing import Any, Protocol, runtime_checkable

from PIL import Image

from lightning_sae.data.images.decoding import WHITE, decode
from lightning_sae.data.images.image_set import Factors, ImageSet

ENOUGH = 2
"""A decoded picture has at least so many times the size that CLIP takes, in both directions."""


@runtime_checkable
class EncodedImages(ImageSet, Protocol):
    """An `ImageSet` whose images are files."""

    def encoded(self, index: int) -> tuple[bytes | None, str]:
        """Return the file of an image, `None` where there is none, and what it is called in messages."""
        ...


class DecodedImages:
    """The same images, decoded by other settings than their own.

    Args:
        images: these.
        size: height and width that CLIP takes (`Clip.image_size`), for `data.decode=fast`: a JPEG file is
            decoded at 1/2, 1/4 or 1/8 of its size where that is still at least twice as much, and CLIP's own
            preprocessing then resizes what is left. `None` decodes all of it, as other files.
        background: what transparent pictures lie on, `data.background`.

    Raises:
        ValueError: the images are no files.
    """

    def __init__(
        self, images: ImageSet, size: tuple[int, int] | None = None, background: str = WHITE
    ) -> None:
        if not isinstance(images, EncodedImages):
            raise ValueError(
                "data.decode=fast and data.background say how files are decoded, and "
                f"{images.identity()['name']} has no files: take data.decode=exact data.background={WHITE}"
            )
        self.images, self.background = images, background
        self.at_least = size and (ENOUGH * size[1], ENOUGH * size[0])
        self.class_names, self.targets = images.class_names, images.targets
        self.vocabulary = images.vocabulary

    @property
    def factors(self) -> Factors:
        """Known truth."""
        return self.images.factors

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(*self.images.encoded(index), self.at_least, self.background)

    def identity(self) -> dict[str, Any]:
        """Return the identity of the images and how they are decoded, as activations depend on both."""
        fast = {"decode": "fast"} if self.at_least else {}
        return {
            **self.images.identity(),
            **fast,
            **({} if self.background == WHITE else {"background": self.background}),
        }
