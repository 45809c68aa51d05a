"""Images decoded and preprocessed beside the model, so that it does not wait."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_sae.clip import Clip
from lightning_sae.data.bad_images import BadImageError
from lightning_sae.data.images import ImageSet

MOST_WORKERS = 8
PREFETCH = 2  # batches that each worker has ready
SHARED_MEMORY = Path("/dev/shm")


class Decoded(NamedTuple):
    """Some images as CLIP takes them.

    Attributes:
        pixels: `[m, 3, H, W]` float32; zeros for a bad image.
        faults: `m` texts, why an image is bad, "" for a good one.
    """

    pixels: Tensor
    faults: list[str]


def load_pixels(
    images: ImageSet, clip: Clip, batches: Iterable[Sequence[int]], num_workers: int = 0
) -> Iterator[Decoded]:
    """Pixels of each batch of image ids, in order, pinned where `clip` is on a GPU.

    Args:
        images: where they come from.
        clip: whose preprocessing they get.
        batches: ids of the images of each batch; taken as they are needed, some ahead of the model.
        num_workers: processes that decode, as `default_workers` chooses them; 0 decodes here.
    """
    loader = DataLoader(
        _Pixels(images, clip),
        batch_sampler=map(list, batches),
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        pin_memory=clip.device.type == "cuda",
        generator=torch.Generator(),  # the global one decides the weights of the autoencoder
    )
    for pixels, faults in loader:
        yield Decoded(pixels, list(faults))


def default_workers(clip: Clip, batches: Sequence[Sequence[int]]) -> int:
    """One for each core that the model leaves, at most 8; no more than batches and shared memory allow."""
    height, width = clip.image_size
    size = 4 * 3 * height * width * max(map(len, batches)) * (PREFETCH + 1)  # bytes on their way
    room = shutil.disk_usage(SHARED_MEMORY).free // size if SHARED_MEMORY.is_dir() else MOST_WORKERS
    return max(0, min(MOST_WORKERS, _cores() - 1, len(batches) - 1, room))


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pixels(Dataset[tuple[Tensor, str]]):
    """Preprocessed images, each with its fault."""

    def __init__(self, images: ImageSet, clip: Clip) -> None:
        self.images, self.preprocess, self.shape = images, clip.preprocess, (3, *clip.image_size)

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        try:
            return self.preprocess(self.images[index]), ""
        except BadImageError as error:
            return torch.zeros(self.shape), str(error)
