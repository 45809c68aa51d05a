"""What a pair is: two images, and the one thing in which they differ."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from lightning_sae.data.images.image_set import ImageSet, LabelledImages


class Contrast(NamedTuple):
    """The one thing in which the two images of a pair differ.

    Attributes:
        factor: factor that changes, such as `background`.
        before: its value in the first image; `None` where it has none, or nobody knows.
        after: its value in the second image; "" where the factor has no values, and just appears.
    """

    factor: str
    before: str | None
    after: str


class ImagePairs(NamedTuple):
    """Pairs of images; an image can be in several.

    Attributes:
        images: `m` images, each once.
        before: `[p]` int64, the first image of each pair.
        after: `[p]` int64, the second one.
        contrasts: in what they differ, one for each pair.
    """

    images: ImageSet
    before: Tensor
    after: Tensor
    contrasts: Sequence[Contrast]


@runtime_checkable
class PairSource(Protocol):
    """Anything that has pairs, or makes them of images."""

    def pairs(self, images: ImageSet) -> ImagePairs | None:
        """Return the pairs that these images, a validation split, allow; `None` where there are none."""
        ...


class DrawnImages(LabelledImages):
    """Images that are drawn on demand.

    Args:
        draw: makes each of them.
        targets: `[m]` int64, class of each, -1 where unknown.
        class_names: names of the classes.
        key: what they are a function of, as JSON, with a `name`.
    """

    def __init__(
        self,
        draw: Sequence[Callable[[], Image.Image]],
        targets: Tensor,
        class_names: list[str],
        key: Mapping[str, Any],
    ) -> None:
        super().__init__(class_names, targets)
        self._draw, self._key = draw, dict(key)

    def __getitem__(self, index: int) -> Image.Image:
        return self._draw[index]()

    def identity(self) -> dict[str, Any]:
        """Return what they are a function of."""
        return self._key
