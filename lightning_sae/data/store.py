"""Reading the activations of one hook point."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.data.manifest import read_manifest
from lightning_sae.data.shards import map_tensor, read_tensor
from lightning_sae.data.statistics import ActivationStatistics


class Layout(NamedTuple):
    """Shape of a store: images, tokens per image, width."""

    n_images: int
    tokens: int
    d_in: int


class ActivationStore:
    """The activations of one split at one hook point, a row per token in the order of the images.

    Held in memory if it fits, else memory-mapped.

    Args:
        folder: a whole shard folder.
        memory_limit_gb: the largest size in 10^9 bytes that is held in memory.
        device: where it is held; in the main memory if it would take more than half of a GPU's free memory.

    Attributes:
        layout: its shape.
        statistics: mean and scale over all its rows.
        x: `[n_rows, d_in]` in the stored type, or `None` where memory-mapped.

    Raises:
        FileNotFoundError: the folder is not whole.
        ValueError: a shard is damaged.
    """

    def __init__(
        self, folder: str | Path, memory_limit_gb: float = 8.0, device: torch.device | str = "cpu"
    ) -> None:
        self.folder = Path(folder)
        manifest = read_manifest(self.folder)
        kind, (tokens, d_in) = manifest["tensors"]["x"]
        self.layout = Layout(manifest["n_images"], tokens, d_in)
        statistics = manifest["statistics"]
        mean = torch.tensor(statistics["mean"], dtype=torch.float32)
        self.statistics = ActivationStatistics(mean, statistics["scale"], statistics["n_tokens"])
        self.x: Tensor | None = None
        self._shards: list[tuple[int, Tensor]] = []  # first row of each, in order
        size = len(self) * d_in * int(kind[1:]) // 8
        if size <= memory_limit_gb * 1e9:
            x = read_tensor(self.folder, "x").flatten(0, 1)
            self.x = x.to(device) if _has_room(torch.device(device), size) else x
        else:
            firsts = [entry["images"][0] * tokens for entry in manifest["shards"]]
            shards = [shard.flatten(0, 1) for shard in map_tensor(self.folder, "x")]
            self._shards = list(zip(firsts, shards, strict=True))

    def __len__(self) -> int:
        return self.layout.n_images * self.layout.tokens

    @property
    def device(self) -> torch.device:
        """Where `rows` come from."""
        return torch.device("cpu") if self.x is None else self.x.device

    @property
    def dtype(self) -> torch.dtype:
        """The stored type."""
        return (self._shards[0][1] if self.x is None else self.x).dtype

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows `start..stop-1`, `[stop - start, d_in]` in the stored type; a view within one shard."""
        if self.x is not None:
            return self.x[start:stop]
        pieces = [
            shard[max(start - first, 0) : stop - first]
            for first, shard in self._shards
            if first < stop and start < first + len(shard)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def images(self, ids: Tensor) -> Tensor:
        """The tokens of some images, `[len(ids), tokens, d_in]` float32."""
        t = self.layout.tokens
        return torch.stack([self.rows(i * t, (i + 1) * t) for i in ids.tolist()]).float()


def _has_room(device: torch.device, size: int) -> bool:
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] // 2
