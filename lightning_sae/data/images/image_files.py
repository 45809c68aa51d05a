"""Image files on a disk."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from lightning_sae.data.images.bad_images import read_file
from lightning_sae.data.images.contents import content_hashes
from lightning_sae.data.images.decoding import PIXELS, decode
from lightning_sae.data.images.image_set import Factors, LabelledImages, digest


class ImageFile(NamedTuple):
    """One file: path relative to the root (with `/`), size in bytes, class index, -1 for none."""

    path: str
    size: int
    label: int


class ImageFiles(LabelledImages):
    """Image files, read on demand.

    Args:
        root: where their paths start.
        files: one for each image.
        class_names: names of the classes.
        name: names the data set and the split.
        factors: what else is known of them.
        captions: of each, also labels worth trying; none are known where it is empty.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[ImageFile],
        class_names: list[str],
        name: str,
        factors: Factors | None = None,
        captions: Sequence[str] = (),
    ) -> None:
        targets = torch.tensor([file.label for file in files], dtype=torch.int64)
        super().__init__(class_names, targets, factors, captions)
        self.root, self.files, self.name = root, files, name

    def __getitem__(self, index: int) -> Image.Image:
        """Return the image in RGB.

        Raises:
            BadImageError: it cannot be decoded; names the file.
            OSError: it cannot be read at all, which is not the image's fault.
        """
        return decode(*self.encoded(index))

    def encoded(self, index: int) -> tuple[bytes, str]:
        """Return the file of an image, and its path from the root.

        Raises:
            BadImageError: it is no regular file.
            OSError: it cannot be read at all.
        """
        path = self.files[index].path
        return read_file(self.root / path, path), path

    def identity(self) -> dict[str, Any]:
        """Return the names, contents and classes of the files, but not where the folder lies.

        The contents are given by `content_hashes`.
        """
        return {
            "name": self.name,
            "classes": digest(self.class_names),
            "files": self._digest,
            "images": len(self),
            "pixels": PIXELS,
        }

    def contents(self) -> list[str]:
        """Return the hash of each file."""
        return content_hashes(self.root, [file.path for file in self.files])

    @cached_property
    def _digest(self) -> str:
        contents = self.contents()
        return digest([[*file, content] for file, content in zip(self.files, contents, strict=True)])
