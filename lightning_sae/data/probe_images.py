"""The probe: a few fixed images on which the later part of CLIP is run."""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, capture_context, make_tail
from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.data.store.cache import cached_tensors


class ProbeImages(NamedTuple):
    """Images of `val` with what the tail needs of them.

    Attributes:
        image_ids: `[p]` int64, ascending.
        targets: `[p]` int64.
        x: `[p, t, d_in]` activations at the hook point.
        context: what the tail needs beside `x`, a row per image, or `None`.
    """

    image_ids: Tensor
    targets: Tensor
    x: Tensor
    context: Tensor | None

    def to(self, device: torch.device | str) -> Self:
        """Return the same probe on another device."""
        context = None if self.context is None else self.context.to(device)
        ids, targets, x = (part.to(device) for part in (self.image_ids, self.targets, self.x))
        return self._replace(image_ids=ids, targets=targets, x=x, context=context)


def choose_probe(targets: Tensor, n: int, seed: int) -> Tensor:
    """Return the ids of `n` images, ascending, as many of each class as there are; fixed by the seed.

    Images without a class (-1) count as one more class.

    Example:
        >>> ids = choose_probe(torch.tensor([0, 0, 0, 0, 1, 1]), 4, seed=0)
        >>> torch.tensor([0, 0, 0, 0, 1, 1])[ids].tolist()
        [0, 0, 1, 1]
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    labels = targets.numpy()[order]
    turn = np.empty(len(labels), dtype=np.int64)  # the how-manieth of its class each image is
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return torch.from_numpy(np.sort(order[np.argsort(turn, kind="stable")[:n]]))


def cached_probe(
    path: Path, images: ImageSet, clip: Clip, hook: HookPoint, ids: Tensor, batch_size: int
) -> ProbeImages:
    """Read the probe of some images, or run CLIP on them once and keep what the tail needs (`path`)."""

    def compute() -> dict[str, Tensor]:
        tail, device = make_tail(clip, hook), clip.device
        xs, contexts = [], []
        for chunk in torch.split(ids, batch_size):
            pixels = torch.stack([clip.preprocess(images[i]) for i in chunk.tolist()]).to(device)
            x, context = capture_context(clip, hook, tail, pixels)
            xs.append(x.float().cpu())
            contexts += [] if context is None else [context.float().cpu()]
        tensors = {"image_ids": ids, "targets": images.targets[ids], "x": torch.cat(xs)}
        return tensors | ({"context": torch.cat(contexts)} if contexts else {})

    tensors = cached_tensors(path, compute)
    return ProbeImages(tensors["image_ids"], tensors["targets"], tensors["x"], tensors.get("context"))
