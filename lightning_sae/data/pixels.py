"""Images decoded and preprocessed beside the model, so that it does not wait."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_sae.clip import Clip
from lightning_sae.data.images import BadImageError, ImageSet, describe_bad_images, find_bad_images

MOST_WORKERS = 8
PREFETCH = 2  # batches that each worker has ready
SHARED_MEMORY = Path("/dev/shm")


def load_pixels(
    images: ImageSet, clip: Clip, batches: Iterable[Sequence[int]], num_workers: int = 0
) -> Iterator[Tensor]:
    """Pixels `[len(ids), 3, H, W]` of each batch of image ids, in order, pinned where `clip` is on a GPU.

    Args:
        images: where they come from.
        clip: whose preprocessing they get.
        batches: ids of the images of each batch; taken as they are needed, some ahead of the model.
        num_workers: processes that decode, as `default_workers` chooses them; 0 decodes here.

    Raises:
        BadImageError: images that cannot be decoded, all of them counted.
    """
    try:
        yield from DataLoader(
            _Pixels(images, clip.preprocess),
            batch_sampler=map(list, batches),
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            pin_memory=clip.device.type == "cuda",
            generator=torch.Generator(),  # the global one decides the weights of the autoencoder
        )
    except BadImageError as first:
        messages = list(find_bad_images(images).values()) or [str(first)]
        raise BadImageError(
            f"{describe_bad_images(messages, len(images))}\n"
            "Repair or remove them, or leave them out with data.on_bad_image=skip"
        ) from first


def default_workers(clip: Clip, batches: Sequence[Sequence[int]]) -> int:
    """One for each core that the model leaves, at most 8; no more than batches and shared memory allow."""
    height, width = clip.image_size
    size = 4 * 3 * height * width * max(map(len, batches)) * (PREFETCH + 1)  # bytes on their way
    room = shutil.disk_usage(SHARED_MEMORY).free // size if SHARED_MEMORY.is_dir() else MOST_WORKERS
    return max(0, min(MOST_WORKERS, _cores() - 1, len(batches) - 1, room))


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pixels(Dataset[Tensor]):
    """Preprocessed images."""

    def __init__(self, images: ImageSet, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.preprocess = images, preprocess

    def __getitem__(self, index: int) -> Tensor:
        return self.preprocess(self.images[index])
