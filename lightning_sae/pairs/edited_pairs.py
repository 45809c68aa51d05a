"""Pairs that edits make of any images."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from PIL import Image

from lightning_sae.data.images.image_set import ImageSet, digest
from lightning_sae.data.probe_images import choose_probe
from lightning_sae.pairs.edits import Edit
from lightning_sae.pairs.pair import Contrast, DrawnImages, ImagePairs
from lightning_sae.trust.numbers import check_counts


class EditedPairs:
    """Images of the data, each beside itself with one thing edited: a pair for every edit.

    Args:
        edits: name -> edit; the names are the user's own.
        n_images: number of images, spread evenly over the classes as far as these have enough.
        seed: of the choice of images and of what edits leave to chance. On one image, all edits draw the
            same, so patches of two colours lie in one place.

    Raises:
        ValueError: no edits, or `n_images` below 1.
    """

    def __init__(self, edits: Mapping[str, Edit], n_images: int = 64, seed: int = 0) -> None:
        check_counts(1, n_images=n_images)
        if not edits:
            raise ValueError("edits names no edit: give at least one, as a Patch")
        self.edits, self.n_images, self.seed = dict(edits), n_images, seed

    def pairs(self, images: ImageSet) -> ImagePairs:
        """Return `n_images` pairs an edit."""
        ids = choose_probe(images.targets, self.n_images, self.seed)
        edits = list(self.edits.values())
        kinds = list(dict.fromkeys([*(edit.start for edit in edits), *edits]))  # None: as it is
        drawn = [partial(self._draw, kind, images, i) for kind in kinds for i in ids.tolist()]
        row = {kind: k * len(ids) + torch.arange(len(ids)) for k, kind in enumerate(kinds)}
        key = {
            "name": "edits",
            "images": images.identity(),
            "ids": digest(ids.tolist()),
            "edits": [edit.identity(images, ids.tolist()) for edit in edits],
            "seed": self.seed,
        }
        return ImagePairs(
            DrawnImages(drawn, images.targets[ids].repeat(len(kinds)), images.class_names, key),
            torch.cat([row[edit.start] for edit in edits]),
            torch.cat([row[edit] for edit in edits]),
            [Contrast(edit.factor, None, edit.value) for edit in edits for _ in ids],
        )

    def _draw(self, edit: Edit | None, images: ImageSet, index: int) -> Image.Image:
        if edit is None:
            return images[index]
        return edit.apply(images, index, np.random.default_rng([self.seed, index]))
