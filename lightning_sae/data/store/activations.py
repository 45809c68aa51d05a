"""Reading the activations of one hook point."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice, takewhile
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.data.store.manifest import read_manifest, shard_rows
from lightning_sae.data.store.shards import check_bytes, map_tensor, read_tensor
from lightning_sae.files import user_path
from lightning_sae.metrics.moments import ActivationStatistics

FEW_ROWS = 131_072
"""Two pools of the reader."""


class Layout(NamedTuple):
    """Shape of a store: images that it has rows of, tokens per image, width."""

    n_images: int
    tokens: int
    d_in: int


class ActivationStore:
    """The activations of one split at one hook point, a row per token in the order of the images.

    Held on a GPU if it fits, else memory-mapped: processes of one machine share what is in its page cache.
    A store of few rows is copied, as the buffers that a mapped one is read into would take as much.

    Args:
        folder: a whole shard folder.
        memory_limit_gb: the largest size in 10^9 bytes that is held on a GPU, and whose bytes are checked.
        device: where it is held; memory-mapped if it would take more than half of a GPU's free memory.

    Attributes:
        layout: its shape.
        statistics: mean and scale over all its rows.
        x: `[n_rows, d_in]` in the stored type where it is held, or `None` where memory-mapped.

    Raises:
        FileNotFoundError: the folder is not whole.
        ValueError: a shard is damaged.
    """

    def __init__(
        self, folder: str | Path, memory_limit_gb: float = 8.0, device: torch.device | str = "cpu"
    ) -> None:
        self.folder = user_path(folder)
        manifest = read_manifest(self.folder)
        kind, (tokens, d_in) = manifest["tensors"]["x"]
        rows = shard_rows(manifest)
        self.layout = Layout(rows[-1].stop, tokens, d_in)
        statistics = manifest["statistics"]
        mean = torch.tensor(statistics["mean"], dtype=torch.float32)
        self.statistics = ActivationStatistics(mean, statistics["scale"], statistics["n_tokens"])
        self.x: Tensor | None = None
        self._shards: list[tuple[int, Tensor]] = []  # first row of each, in order
        size = len(self) * d_in * int(kind[1:]) // 8
        small = size <= memory_limit_gb * 1e9
        if small and _has_room(torch.device(device), size):
            self.hold(device)
        elif small and len(self) <= FEW_ROWS:
            self.hold("cpu")
        else:
            if small:
                check_bytes(self.folder, manifest)  # after which it lies in the page cache
            firsts = [images.start * tokens for images in rows]
            shards = [shard.flatten(0, 1) for shard in map_tensor(self.folder, "x")]
            self._shards = list(zip(firsts, shards, strict=True))

    def hold(self, device: torch.device | str) -> None:
        """Copy all rows into the memory of a device, the bytes checked: this process alone has them."""
        self.x = read_tensor(self.folder, "x").flatten(0, 1).to(device)

    def __len__(self) -> int:
        return self.layout.n_images * self.layout.tokens

    @property
    def device(self) -> torch.device:
        """The device that `rows` come from."""
        return torch.device("cpu") if self.x is None else self.x.device

    @property
    def dtype(self) -> torch.dtype:
        """The stored type."""
        return (self._shards[0][1] if self.x is None else self.x).dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the rows `start..stop-1`, `[stop - start, d_in]` in the stored type.

        Within one shard the result is a view.
        """
        if self.x is not None:
            return self.x[start:stop]
        first_shard = bisect_right(self._shards, start, key=itemgetter(0)) - 1
        touched = takewhile(lambda shard: shard[0] < stop, islice(self._shards, first_shard, None))
        pieces = [shard[max(start - first, 0) : stop - first] for first, shard in touched]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield one pass over all rows in order, `[at most size, d_in]` float32."""
        for start in range(0, len(self), size):
            yield self.rows(start, min(start + size, len(self))).float()

    def sample(self, n: int, seed: int) -> Tensor:
        """Return `[min(n, rows), d_in]` float32, random rows; the same for the same seed."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return torch.cat([self.rows(i, i + 1) for i in order[:n].tolist()]).float()

    def owners(self, rows: Tensor) -> Tensor:
        """Return the image that each row is a token of, `[m]` int64."""
        return rows // self.layout.tokens

    def first_row(self, example: int) -> int:
        """Return the row of an image's first token.

        For the image behind the last one this is the number of rows.
        """
        return example * self.layout.tokens

    def images(self, ids: Tensor) -> Tensor:
        """Return the tokens of some images, `[len(ids), tokens, d_in]` float32."""
        t = self.layout.tokens
        return torch.stack([self.rows(i * t, (i + 1) * t) for i in ids.tolist()]).float()


def _has_room(device: torch.device, size: int) -> bool:
    """Return whether a device with a memory of its own has room for so many bytes."""
    return device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] // 2
