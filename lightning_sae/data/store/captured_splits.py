"""The splits of a data set: all of their images, and those that a store has."""

from pathlib import Path
from typing import Literal, get_args

from lightning_sae.clip import Clip
from lightning_sae.data.images.bad_images import GoodImages, check_same_images
from lightning_sae.data.images.decoded import DecodedImages
from lightning_sae.data.images.decoding import WHITE, check_background
from lightning_sae.data.images.image_set import ImageSet, ImageSource, Split
from lightning_sae.data.store.layout import store_folder
from lightning_sae.data.store.manifest import MANIFEST, bad_images_of, read_manifest

Decode = Literal["exact", "fast"]


class CapturedSplits:
    """A data set, and where CLIPs see its splits; each split is read once.

    Args:
        source: the data set.
        store_dir: root of all stores; `None` is the user's cache folder.
        decode: `fast` takes large JPEG files at a fraction of their size (`DecodedImages`).
        background: the colour that transparent pictures are laid on.

    Raises:
        ValueError: another `decode`, or no colour; images that are no files, when they are asked for.
    """

    def __init__(
        self,
        source: ImageSource,
        store_dir: str | None,
        decode: Decode = "exact",
        background: str = WHITE,
    ) -> None:
        if decode not in get_args(Decode):
            raise ValueError(f"data.decode must be one of {', '.join(get_args(Decode))}, got {decode!r}")
        self._source, self._store_dir, self._decode = source, store_dir, decode
        self.background = check_background(background)
        self._whole, self._good = dict[Split, ImageSet](), dict[Split, ImageSet]()

    def whole(self, split: Split) -> ImageSet:
        """Return all images, also those that cannot be decoded."""
        if split not in self._whole:
            self._whole[split] = self._source.split(split)
        return self._whole[split]

    def decoded(self, split: Split, clip: Clip) -> ImageSet:
        """Return all images, as they are decoded for a CLIP."""
        whole = self.whole(split)
        if self._decode == "exact" and self.background == WHITE:
            return whole
        return DecodedImages(whole, clip.image_size if self._decode == "fast" else None, self.background)

    def folder(self, split: Split, clip: Clip) -> Path:
        """Return where a CLIP's view of a split lies."""
        return store_folder(self._store_dir, clip, self.decoded(split, clip))

    def good(self, split: Split, clip: Clip) -> ImageSet:
        """Return the images that have rows in the store; all of them before it is filled."""
        if split not in self._good:
            folder, images = self.folder(split, clip) / "images", self.decoded(split, clip)
            if not (folder / MANIFEST).exists():
                return images
            bad = [*bad_images_of(read_manifest(folder))]
            self._good[split] = GoodImages(images, bad) if bad else images
        return self._good[split]

    def check_same(self, split: Split, clip: Clip, other: Clip) -> None:
        """Refuse two CLIPs' views of a split whose rows are not of the same images.

        Raises:
            ValueError: other images were bad when the other view was captured.
        """
        folders = self.folder(split, clip) / "images", self.folder(split, other) / "images"
        bad, bad_there = (bad_images_of(read_manifest(folder)) for folder in folders)
        check_same_images(folders[0], bad, folders[1], bad_there)
