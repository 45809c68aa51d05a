"""The images that a monitor is shown: a folder, a list of files, or names that come in one by one."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.clip import Clip
from lightning_sae.data.capture.pixels import default_workers, load_pixels
from lightning_sae.data.images.decoding import WHITE, BadImageError
from lightning_sae.data.images.image_set import ImageSet, LabelledImages, digest
from lightning_sae.data.sources.folders.walk import above, walk_images
from lightning_sae.explain.image_file import read_image
from lightning_sae.files import user_path
from lightning_sae.progress import track
from lightning_sae.trust.documents import read_text

BATCH = 64


class Prepared(NamedTuple):
    """A batch of images.

    Attributes:
        pixels: `[m, ...]`, what `Clip.prepare` makes of the images that can be read.
        faults: why the others cannot.
    """

    pixels: Tensor
    faults: list[str]


class NamedFiles(LabelledImages):
    """Image files by name, of which nothing else is known.

    Args:
        paths: of the files.
        background: what transparent pictures lie on.
        name: what they are together.
    """

    def __init__(self, paths: Sequence[Path], background: str = WHITE, name: str = "files") -> None:
        super().__init__([], torch.full((len(paths),), -1))
        self.paths, self.background, self.name = paths, background, name

    def __getitem__(self, index: int) -> Image.Image:
        """Return an image in RGB; `BadImageError` where it cannot be read, or is not there."""
        path = self.paths[index]
        if not path.exists():
            raise BadImageError(f"{path}: no such file")
        return read_image(path, self.background)

    def identity(self) -> dict[str, Any]:
        """Return the names of the files."""
        return {"name": self.name, "files": digest([str(path) for path in self.paths])}


def listed_files(source: Path) -> list[Path]:
    """Return the image files of a folder, by name, or those that a text file lists, a path a line.

    Relative paths in a list start at its folder.

    Raises:
        FileNotFoundError: there is no such folder or file, or one that is listed.
        ValueError: it holds no images.
    """
    if source.is_dir():
        found = [file.path for file in walk_images(source, above(source)).images]
    else:
        lines = [line.strip() for line in read_text(source).splitlines()]
        found = [source.parent / user_path(line) for line in lines if line]
    if not found:
        raise ValueError(f"{source} names no images")
    for path in found:
        if not path.exists():
            raise FileNotFoundError(f"{source} names {path}, and no such file is there")
    return found


def named_lines(lines: Iterable[str]) -> Iterator[list[Path]]:
    """Yield the paths of lines as they come, in batches of at most `BATCH`, the last one shorter."""
    paths = (user_path(line.strip()) for line in lines if line.strip())
    while some := list(islice(paths, BATCH)):
        yield some


def digest_names(paths: Sequence[Path]) -> str:
    """Return the digest of the names of files in their order."""
    return hashlib.sha256("\0".join(str(path.resolve()) for path in paths).encode()).hexdigest()


def prepared_batches(
    images: ImageSet, clip: Clip, title: str, first: int = 0, workers: int | None = None
) -> Iterator[Prepared]:
    """Yield the images as CLIP takes them, decoded beside the model.

    Args:
        images: in their order.
        clip: whose preprocessing they get.
        title: what is done with them.
        first: image to begin with.
        workers: processes that decode; `None` chooses.
    """
    batches = [range(i, min(i + BATCH, len(images))) for i in range(first, len(images), BATCH)]
    if not batches:
        return
    chosen = default_workers(clip, batches) if workers is None else workers
    decoded = load_pixels(images, clip, batches, BATCH, chosen)
    for batch in track(decoded, title, len(batches), unit="batches"):
        good = torch.tensor([not fault for fault in batch.faults])
        yield Prepared(batch.pixels[good], [fault for fault in batch.faults if fault])
