"""Batches straight from the store: shuffled and resumable for training, in image order for validation."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lightning_sae.data.store import ActivationStore
from lightning_sae.types import Batch

BLOCK = 256  # rows read in one piece: single rows from a cold disk are fifty times slower
POOL_BLOCKS = 256  # blocks that are shuffled among each other in memory


class _Pass:
    """One shuffled pass: blocks in random order, dealt to pools, rows in random order within a pool."""

    def __init__(self, store: ActivationStore, seed: int, epoch: int) -> None:
        self.store, self.seed, self.epoch = store, seed, epoch
        self.block = BLOCK if store.x is None else len(store)
        order = np.random.default_rng([seed, epoch]).permutation(-(-len(store) // self.block))
        self.pools = [order[i : i + POOL_BLOCKS] for i in range(0, len(order), POOL_BLOCKS)]
        sizes = [np.minimum(self.block, len(store) - pool * self.block).sum() for pool in self.pools]
        self.starts = np.cumsum([0, *sizes])
        self._loaded: tuple[int, Tensor, Tensor] | None = None

    def take(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Places `start..stop-1` of the pass: activations `[m, d_in]` and their rows in the store."""
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        last = int(np.searchsorted(self.starts, stop, "left"))
        pieces = [self._take(pool, start, stop) for pool in range(first, last)]
        return torch.cat([x for x, _ in pieces]), torch.cat([rows for _, rows in pieces])

    def _take(self, pool: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        if self._loaded is None or self._loaded[0] != pool:
            self._loaded = (pool, *self._load(pool))
        _, x, rows = self._loaded
        offset = int(self.starts[pool])
        order = rows[max(start - offset, 0) : stop - offset]
        return x[order[:, 0]], order[:, 1]

    def _load(self, pool: int) -> tuple[Tensor, Tensor]:
        bounds = [
            (int(b) * self.block, min((int(b) + 1) * self.block, len(self.store))) for b in self.pools[pool]
        ]
        pieces = [self.store.rows(*bound) for bound in bounds]
        x = pieces[0] if len(pieces) == 1 else torch.cat(pieces)  # no copy of a store in memory
        order = np.random.default_rng([self.seed, self.epoch, pool]).permutation(len(x))
        rows = np.concatenate([np.arange(*bound) for bound in bounds])
        return x, torch.from_numpy(np.stack([order, rows[order]], 1)).to(x.device)


class TrainLoader:
    """An endless stream of shuffled passes over the store, handed out one pass per iteration.

    Each pass gives every row once, less a remainder below one batch. The stream has a position: what follows
    depends on (seed, position) alone, so a run that is resumed from `state_dict` repeats and skips nothing,
    wherever Lightning ends its epochs. A store in memory is shuffled as a whole; a memory-mapped one by
    blocks of 256 rows, then within pools of 256 blocks.

    Args:
        store: the activations.
        targets: `[n_images]` class of each image.
        batch_size: rows per batch and process.
        seed: of the shuffle.
        rank: this process.
        world_size: number of processes; each gets its own part of every pass.

    Raises:
        ValueError: the store has less than one batch for each process.
    """

    def __init__(
        self,
        store: ActivationStore,
        targets: Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 1 <= batch_size * world_size <= len(store):
            raise ValueError(
                f"batch_size x processes must be in 1..{len(store)}, the rows of the train store, got "
                f"{batch_size} x {world_size}"
            )
        self.store, self.batch_size, self.seed = store, batch_size, seed
        self.targets = targets.to(store.device)
        self.rank, self.world_size = rank, world_size
        self.position = 0
        self._pass = _Pass(store, seed, epoch=0)

    def __len__(self) -> int:
        return len(self.store) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            epoch, index = divmod(self.position, len(self))
            self.position += 1
            start = (index * self.world_size + self.rank) * self.batch_size
            yield self._batch(epoch, start, start + self.batch_size)

    def state_dict(self) -> dict[str, int]:
        """The position in the stream, and what gives it its meaning."""
        return {**self._meaning(), "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken.

        Raises:
            ValueError: with another batch size, seed, store or number of processes there is no such place.
        """
        changed = [
            f"{key} {state[key]} -> {value}" for key, value in self._meaning().items() if state[key] != value
        ]
        if changed:
            raise ValueError(f"cannot resume in the middle of the data, these changed: {', '.join(changed)}")
        self.position = state["position"]

    def _meaning(self) -> dict[str, int]:
        return {
            "rows": len(self.store),
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "seed": self.seed,
            "in_memory": int(self.store.x is not None),
        }

    def _batch(self, epoch: int, start: int, stop: int) -> Batch:
        if self._pass.epoch != epoch:
            self._pass = _Pass(self.store, self.seed, epoch)
        x, rows = self._pass.take(start, stop)
        image_ids = rows // self.store.layout.tokens
        return Batch(x.float(), image_ids, self.targets[image_ids])


class EvalLoader:
    """Every row once, in the order of the images, whole images per batch, with their embeddings.

    Args:
        store: the activations.
        targets: `[n_images]`.
        embeddings: `[n_images, d_embed]` unit, of the audited CLIP.
        batch_size: rows per batch; at least the tokens of one image.
        rank: this process.
        world_size: number of processes; each gets a run of images.
    """

    def __init__(
        self,
        store: ActivationStore,
        targets: Tensor,
        embeddings: Tensor,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        n = store.layout.n_images
        images = range(n * rank // world_size, n * (rank + 1) // world_size)
        step = max(1, batch_size // store.layout.tokens)
        self.store, self.chunks = store, [images[i : i + step] for i in range(0, len(images), step)]
        self.targets, self.embeddings = targets.to(store.device), embeddings.to(store.device)

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Batch]:
        tokens = self.store.layout.tokens
        for chunk in self.chunks:
            x = self.store.rows(chunk.start * tokens, chunk.stop * tokens).float()
            ids = torch.arange(chunk.start, chunk.stop, device=x.device).repeat_interleave(tokens)
            yield Batch(x, ids, self.targets[ids], self.embeddings[ids])
