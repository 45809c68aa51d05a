"""Images decoded and resized beside the model, so that it does not wait."""

import math
import multiprocessing
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from joblib import cpu_count
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_sae.clip import Clip
from lightning_sae.data.capture.orphans import end_with_parent
from lightning_sae.data.images.decoding import BadImageError, notes_on
from lightning_sae.data.images.image_set import ImageSet

PIECE = 32
"""Images that a worker decodes at a time: all of them are at work on the same batch."""

AHEAD = 2
"""Batches that are on their way, and pieces that each worker has before it."""

SHARED_MEMORY = Path("/dev/shm")


class Decoded(NamedTuple):
    """A batch of images as workers hand them over.

    Attributes:
        pixels: `[m, ...]`, what `clip.finish` takes: bytes `[m, H, W, 3]` for the transforms of open_clip;
            zeros for a bad image. In pinned memory where `clip` is on a GPU; elsewhere they hold until the
            next batch is asked for.
        faults: `m` texts, why an image is bad, "" for a good one.
        notes: how many were decoded how (`notes_on`).
    """

    pixels: Tensor
    faults: list[str]
    notes: Counter[str]


class Piece(NamedTuple):
    """Ids of images for one worker, and the row of the ring where the first of them goes."""

    ids: Sequence[int]
    row: int


def load_pixels(
    images: ImageSet, clip: Clip, batches: Iterable[Sequence[int]], batch_size: int, num_workers: int = 0
) -> Iterator[Decoded]:
    """Yield the pixels of each batch of image ids, in order.

    Workers write them side by side into one ring of shared memory, where each batch is a slice: no image is
    sent, stacked or copied from process to process.

    Args:
        images: where they come from.
        clip: whose preprocessing they get.
        batches: ids of the images of each batch; taken as they are needed, some ahead of the model.
        batch_size: the most images that one of them has.
        num_workers: processes that decode, as `default_workers` chooses them; 0 decodes here.
    """
    ring = _shared(_pieces_in_ring(batch_size, num_workers) * PIECE, _example(clip))
    on_their_way = deque[range]()

    def pieces() -> Iterator[Piece]:
        row = 0
        for ids in batches:
            row = row if row + len(ids) <= len(ring) else 0  # a batch is never cut
            on_their_way.append(range(row, row + len(ids)))
            starts = range(0, len(ids), PIECE)
            yield from (Piece(ids[start : start + PIECE], row + start) for start in starts)
            row += PIECE * len(starts)

    loader = DataLoader(
        _Decoding(images, clip, ring),
        batch_size=None,
        sampler=pieces(),
        num_workers=num_workers,
        prefetch_factor=_pieces_ahead(batch_size, num_workers) if num_workers else None,
        multiprocessing_context=_context() if num_workers else None,
        worker_init_fn=end_with_parent,
        generator=torch.Generator(),  # the global one decides the weights of the autoencoder
    )
    faults, notes = list[str](), Counter[str]()
    for found, how in loader:
        faults += found
        notes.update(how)
        if len(faults) == len(on_their_way[0]):
            rows = on_their_way.popleft()
            pixels = ring[rows.start : rows.stop]
            pixels = pixels.pin_memory() if clip.device.type == "cuda" else pixels
            yield Decoded(pixels, faults, notes)
            faults, notes = [], Counter()


def _context() -> str:
    """Return how workers are started: as everywhere else in this process, except in a job of joblib.

    In such a job processes are started by joblib's own `loky` by default, which cannot start torch's.
    """
    ways = multiprocessing.get_all_start_methods()  # that of the system comes first
    way = multiprocessing.get_start_method()
    return way if way in ways else ways[0]


def default_workers(clip: Clip, batches: Sequence[Sequence[int]], processes: int = 1) -> int:
    """Return how many workers to start: one per core but the model's own, as work and shared memory allow.

    Args:
        clip: whose preprocessing the images get.
        batches: ids of all images that may come.
        processes: of this machine that capture at the same time, and share its cores.
    """
    pieces = sum(math.ceil(len(ids) / PIECE) for ids in batches)
    most, batch_size = min(available_cores() // processes, pieces) - 1, max(map(len, batches))
    if SHARED_MEMORY.is_dir():
        room = shutil.disk_usage(SHARED_MEMORY).free // processes // (PIECE * _example(clip).nbytes)
        while most > 0 and _pieces_in_ring(batch_size, most) > room:
            most -= 1
    return max(0, most)


def _pieces_ahead(batch_size: int, num_workers: int) -> int:
    """Return how many pieces each worker has before it.

    Together these are some batches, as the model takes a batch as a whole.
    """
    return AHEAD * math.ceil(math.ceil(batch_size / PIECE) / num_workers)


def _pieces_in_ring(batch_size: int, num_workers: int) -> int:
    """Return how many pieces the ring holds.

    These are the batch that is handed over, the pieces on their way, and what is left free where a batch
    would be cut.
    """
    on_their_way = num_workers * _pieces_ahead(batch_size, num_workers) if num_workers else 0
    return on_their_way + 2 * math.ceil(batch_size / PIECE)


def _example(clip: Clip) -> Tensor:
    """Return a blank example of the shape and type that a worker makes of an image."""
    return clip.prepare(clip.blank)


def _shared(n: int, example: Tensor) -> Tensor:
    """Return room for `n` such examples in shared memory, without touching any page of it."""
    # as PyTorch's own workers do it; share_memory_ would copy, and so touch, all of it
    storage = torch.UntypedStorage._new_shared(n * example.nbytes)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=example.dtype).set_(storage).view(n, *example.shape)


def available_cores() -> int:
    """Return the number of cores that this process may use, also by the quota of a container."""
    return int(cpu_count())


class _Decoding(Dataset[tuple[list[str], list[str]]]):
    """Writes pieces into the ring; an item is the fault of each image of a piece, and all notes."""

    def __init__(self, images: ImageSet, clip: Clip, ring: Tensor) -> None:
        self.images, self.prepare, self.ring = images, clip.prepare, ring

    def __getitem__(self, piece: Piece) -> tuple[list[str], list[str]]:
        notes: list[str] = []
        return [self._decode(image, piece.row + i, notes) for i, image in enumerate(piece.ids)], notes

    def _decode(self, image: int, row: int, notes: list[str]) -> str:
        """Return the image's fault, and add to the notes."""
        try:
            picture = self.images[image]
            self.ring[row] = self.prepare(picture)
        except BadImageError as error:
            self.ring[row] = 0
            return str(error)
        notes += notes_on(picture)
        return ""
