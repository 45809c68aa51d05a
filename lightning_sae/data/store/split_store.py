"""The part of the store that belongs to one CLIP on one split: embeddings, and activations at hook points."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint
from lightning_sae.data.images.bad_images import BadImages, check_same_images, describe_bad_images
from lightning_sae.data.images.decoding import describe_notes
from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.data.store.layout import clip_identity, hook_folder, store_folder
from lightning_sae.data.store.shards import ShardFolder
from lightning_sae.data.store.space import SHARD_HEAD
from lightning_sae.mappings import flatten
from lightning_sae.metrics.moments import ActivationStatistics, Moments

Activations = dict[HookPoint | None, Tensor]
"""What a batch gave: the embeddings, under `None`, and the tokens at each hook point."""


class ClaimedShard(NamedTuple):
    """A shard that this process has claimed, and what is missing of it."""

    shard: int
    ids: range
    own: bool
    hook_points: list[HookPoint]


FORMAT = 1
"""Raised when what is stored changes its meaning."""


class Captured(NamedTuple):
    """A part, the good rows of its batches, its bad images, id -> message, and how images were decoded."""

    part: ClaimedShard
    batches: list[Activations]
    bad: dict[int, str]
    notes: Counter[str]


class SplitStore:
    """Shard folders whose shards hold the same images: `images`, and one per hook point.

    Args:
        images: one split.
        clip: the model.
        hook_points: where it is captured.
        store_dir: the root of all stores; `None` is the user's cache folder.
        dtype: of the activations.
        shard_images: images per file.
        tokens_per_image: how many tokens of each image are kept; `None` keeps all.
        max_bad_images: images that may be bad, a count, or a share below 1.

    Attributes:
        folder: holds all of them.
        own: embeddings and targets.
        hooked: activations, by hook point.
    """

    def __init__(
        self,
        images: ImageSet,
        clip: Clip,
        hook_points: Sequence[HookPoint],
        store_dir: str | Path | None,
        dtype: str,
        shard_images: int,
        tokens_per_image: int | None,
        max_bad_images: float,
    ) -> None:
        self.images, self.max_bad_images = images, max_bad_images
        self.folder = store_folder(store_dir, clip, images)
        base = {"format": FORMAT, "clip": clip_identity(clip), "data": images.identity()}
        kept = {} if tokens_per_image is None else {"tokens_per_image": tokens_per_image}
        n = len(images)
        self.own = ShardFolder(self.folder / "images", flatten(base), n, shard_images)
        self.hooked = {
            hook: ShardFolder(
                hook_folder(self.folder, hook, tokens_per_image),
                flatten({**base, "hook_point": hook.module, "tokens": hook.tokens, "dtype": dtype, **kept}),
                n,
                shard_images,
            )
            for hook in hook_points
        }

    @property
    def parts(self) -> dict[HookPoint | None, ShardFolder]:
        """All folders; the embeddings are under `None`."""
        folders: dict[HookPoint | None, ShardFolder] = {None: self.own}
        return folders | self.hooked

    @property
    def complete(self) -> bool:
        """True if everything is there, as far as names and sizes tell; changes nothing."""
        return not self.missing() and all(folder.complete for folder in self.parts.values())

    def missing(self) -> list[int]:
        """Return the shards of which something is missing; change nothing.

        Raises:
            ValueError: a folder was made with other settings.
        """
        return sorted({shard for folder in self.parts.values() for shard in folder.missing()})

    def bytes_missing(self, hook: HookPoint | None, per_image: int) -> int:
        """Return how much of one folder is still to be written."""
        folder = self.parts[hook]
        return sum(len(folder.images(shard)) * per_image + SHARD_HEAD for shard in folder.missing())

    def lacks(self, shard: int) -> ClaimedShard | None:
        """Return what is missing of a shard, if anything, once it is claimed."""
        self.look_again()
        lacking = [
            hook for hook, folder in self.parts.items() if not folder.complete and not folder.present(shard)
        ]
        hook_points = [hook for hook in lacking if hook is not None]
        return ClaimedShard(shard, self.own.images(shard), None in lacking, hook_points) if lacking else None

    def look_again(self) -> None:
        """See what processes on other machines have written, as `ShardFolder.look_again`."""
        for folder in self.parts.values():
            folder.look_again()

    def withdraw(self) -> None:
        """Take back the manifests of folders that are not whole."""
        for folder in self.parts.values():
            if folder.missing():
                folder.withdraw()

    def write(self, captured: Captured) -> None:
        """Write what was missing of a shard."""
        part, batches, bad, notes = captured
        if part.own:
            ids = [image for image in part.ids if image not in bad]
            embeddings = torch.cat([batch[None] for batch in batches])
            tensors = {"embeddings": embeddings, "targets": self.images.targets[ids]}
            self.own.write(part.shard, tensors, bad, notes)
        for hook in part.hook_points:
            x = torch.cat([batch[hook] for batch in batches])
            moments = Moments.of(x.flatten(0, 1))
            spread = torch.tensor(moments.spread, dtype=torch.float64)
            self.hooked[hook].write(part.shard, {"x": x, "mean": moments.mean, "spread": spread}, bad)

    def bad_images(self) -> BadImages:
        """Return the bad images that are known so far."""
        return BadImages(self.images, self.max_bad_images, self.own.bad_images())

    def check_bad_images(self) -> None:
        """Refuse too many bad images, and folders that differ in theirs; warn of bad images otherwise."""
        found = self.bad_images().found
        for folder in self.hooked.values():
            check_same_images(self.own.folder, found, folder.folder, folder.bad_images())
        if found:
            text = describe_bad_images([*found.values()], len(self.images))
            warnings.warn(f"left out: {text}", stacklevel=3)

    def report_decoding(self) -> None:
        """Warn of images that are not plain RGB of eight bits, with their number for each way of decoding."""
        if notes := self.own.notes():
            warnings.warn(describe_notes(notes, len(self.images)), stacklevel=3)

    def finish(self) -> None:
        """Write the manifests that are missing."""
        if not self.own.complete:
            self.own.finish()
        for hook, folder in self.hooked.items():
            if not folder.complete:
                folder.finish(_statistics(hook, folder.moments()))


def _statistics(hook: HookPoint, moments: Moments) -> ActivationStatistics:
    if moments.spread == 0:
        raise ValueError(
            f"all {moments.n} activations at {hook} are equal: the hook point does not depend on the "
            "image, or all images are the same; choose another hook_point or check data.root"
        )
    return moments.statistics()
