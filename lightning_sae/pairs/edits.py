"""Edits that change one thing in any image: a tint, a patch, a printed word, another background."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageColor

from lightning_sae.data.images.contents import content_hashes
from lightning_sae.data.images.decoded import EncodedImages
from lightning_sae.data.images.decoding import decode
from lightning_sae.data.images.image_set import ImageSet, digest, listed
from lightning_sae.pairs.printing import Style, put_label
from lightning_sae.trust.documents import read_bytes

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Edit:
    """A change of one thing in an image; a subclass overrides `factor`, `value` and `apply`.

    Attributes:
        factor: the thing that it changes.
    """

    factor: ClassVar[str]

    @property
    def value(self) -> str:
        """The value that it changes it to."""
        raise NotImplementedError

    @property
    def start(self) -> "Edit | None":
        """The edit of the first image of a pair; `None` for the image as it is."""
        return None

    def apply(self, images: ImageSet, index: int, draws: np.random.Generator) -> Image.Image:
        """Return an edited copy of an image; what is left to chance comes from `draws`."""
        raise NotImplementedError

    def identity(self, images: ImageSet, ids: Sequence[int]) -> dict[str, Any]:
        """Return what determines the edited images, beside the images; refuse images that it cannot edit."""
        return {"edit": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Coloured(Edit):
    """An edit by a colour, which is its value.

    Args:
        colour: a name or `#rrggbb`.

    Raises:
        ValueError: no colour.
    """

    colour: str

    def __post_init__(self) -> None:
        _rgb(self.colour)

    @property
    def value(self) -> str:
        """The colour."""
        return self.colour

    def plain(self, size: tuple[int, int]) -> Image.Image:
        """Return a picture of the colour alone, as wide and high as another."""
        return Image.new("RGB", size, _rgb(self.colour))


@dataclass(frozen=True)
class Tint(Coloured):
    """Mixes a colour into every pixel.

    Args:
        colour: a name or `#rrggbb`.
        strength: share of the colour in the mixture, in (0, 1].

    Raises:
        ValueError: no colour, or a strength out of its range.
    """

    factor = "tint"
    strength: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("strength", self.strength)

    def apply(self, images: ImageSet, index: int, draws: np.random.Generator) -> Image.Image:
        """Return the mixture."""
        picture = images[index].convert("RGB")
        return Image.blend(picture, self.plain(picture.size), self.strength)


@dataclass(frozen=True)
class Patch(Coloured):
    """Lays a square of one colour on the image, at a place that is drawn.

    Args:
        colour: a name or `#rrggbb`.
        size: of its edge, share of the shorter edge of the image, in (0, 1].

    Raises:
        ValueError: no colour, or a size out of its range.
    """

    factor = "patch"
    size: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("size", self.size)

    def apply(self, images: ImageSet, index: int, draws: np.random.Generator) -> Image.Image:
        """Return a copy with the square; outside of it nothing changes."""
        picture = images[index].convert("RGB")
        edge = max(1, round(self.size * min(picture.size)))
        left, top = (int(draws.integers(free - edge + 1)) for free in picture.size)
        picture.paste(self.plain((edge, edge)), (left, top))
        return picture


@dataclass(frozen=True)
class PrintedWord(Edit):
    """Prints a word on a white label; the first image of the pair has the same label, empty.

    Args:
        word: on the label.
        font: file of matplotlib, without its ending.
        height: of the label, a share of the image's.
        place: of the label, 0 at the upper edge to 1 at the lower one.
        written: whether the word stands there; else the label is as wide, and empty.
    """

    factor = "word"
    word: str
    font: str = "DejaVuSans"
    height: float = 0.25
    place: float = 1.0
    written: bool = True

    @property
    def value(self) -> str:
        """The word."""
        return self.word

    @property
    def start(self) -> Edit | None:
        """The empty label."""
        return replace(self, written=False) if self.written else None

    def apply(self, images: ImageSet, index: int, draws: np.random.Generator) -> Image.Image:
        """Return a copy with the label."""
        return put_label(images[index], self.word, Style(self.font, self.height, self.place), self.written)


@dataclass(frozen=True)
class OtherBackground(Coloured):
    """Puts the thing of an image, as a mask has it, on a background of one colour.

    Args:
        colour: of the background, a name or `#rrggbb`.
        masks: folder with a PNG for each image, of the same path with the ending `.png`: white where the
            thing is, black where the background is. A mask of another size is scaled.

    Raises:
        ValueError: no colour; from `identity` images that are no files.
        FileNotFoundError: (from `identity`) images without a mask; all counted, the first ten named.
    """

    factor = "background"
    masks: str

    def apply(self, images: ImageSet, index: int, draws: np.random.Generator) -> Image.Image:
        """Return a copy with the background; where the mask is white nothing changes."""
        picture, path = images[index].convert("RGB"), self._masks(images, [index])[0]
        mask = decode(read_bytes(Path(self.masks) / path), path).convert("L").resize(picture.size)
        return Image.composite(picture, self.plain(picture.size), mask)

    def identity(self, images: ImageSet, ids: Sequence[int]) -> dict[str, Any]:
        """Return the colour and what the masks hold."""
        paths = self._masks(images, ids)
        if lost := [path for path in paths if not (Path(self.masks) / path).is_file()]:
            raise FileNotFoundError(
                f"{len(lost)} of {len(paths)} images have no mask in {self.masks}:{listed(lost)}\n"
                "Put a PNG there for each, white where the thing is, or take fewer images (n_images)"
            )
        name = type(self).__name__
        return {"edit": name, "colour": self.colour, "masks": digest(content_hashes(self.masks, paths))}

    def _masks(self, images: ImageSet, ids: Sequence[int]) -> list[str]:
        """Return the paths of masks in their folder."""
        if not isinstance(images, EncodedImages):
            raise ValueError(
                f"masks belong to image files, and {images.identity()['name']} has none: leave "
                "OtherBackground out"
            )
        return [str(PurePosixPath(images.encoded(i)[1]).with_suffix(".png")) for i in ids]


def _rgb(colour: str) -> RGB:
    try:
        return ImageColor.getrgb(colour)[:3]
    except ValueError as error:
        raise ValueError(f"a colour is a name such as red, or #rrggbb; got {colour!r}") from error


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
