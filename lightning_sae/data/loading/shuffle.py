"""The order of the training data, and its rows, read ahead of the training by a thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_sae.data.store.activations import ActivationStore

BLOCK = 256  # rows read in one piece: single rows from a cold disk are fifty times slower
POOL_BLOCKS = 256  # blocks whose rows are shuffled among each other in memory


class StreamPlace(NamedTuple):
    """A pool of the endless stream of passes."""

    epoch: int
    pool: int


@dataclass(frozen=True)
class Shuffle:
    """The order of one pass over `n_rows` rows, a function of seed and epoch alone.

    Blocks of 256 rows are dealt at random to pools of 256 blocks; the rows of a pool are in random order.

    Example:
        >>> shuffle = Shuffle(n_rows=5, seed=0, epoch=0)
        >>> shuffle.blocks(0), shuffle.order(0)[1].tolist()
        ([range(0, 5)], [2, 4, 3, 0, 1])
    """

    n_rows: int
    seed: int
    epoch: int

    @cached_property
    def starts(self) -> Any:
        """`[n_pools + 1]` places in the pass where pools start."""
        sizes = np.minimum(BLOCK, self.n_rows - BLOCK * self._dealt)
        return np.cumsum([0, *np.add.reduceat(sizes, np.arange(0, len(sizes), POOL_BLOCKS))])

    def find(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """Return the pools that hold the places `start..stop-1` of the pass, each with its slice of them."""
        first = int(np.searchsorted(self.starts, start, "right")) - 1
        last = int(np.searchsorted(self.starts, stop, "left"))
        offsets = [int(offset) for offset in self.starts[first:last]]
        return [
            (pool, slice(max(start - offset, 0), stop - offset)) for pool, offset in enumerate(offsets, first)
        ]

    def blocks(self, pool: int) -> list[range]:
        """Return the rows of the blocks of a pool, ascending."""
        starts = (BLOCK * self._blocks(pool)).tolist()
        return [range(start, min(start + BLOCK, self.n_rows)) for start in starts]

    def order(self, pool: int) -> tuple[Tensor, Tensor]:
        """Return a pool in the order of the pass, as places in its blocks and as rows of the store.

        Both are `[m]` int64.
        """
        size = int(self.starts[pool + 1] - self.starts[pool])
        order = np.random.default_rng([self.seed, self.epoch, pool]).permutation(size)
        rows = BLOCK * self._blocks(pool)[order // BLOCK] + order % BLOCK  # only the last block may be short
        return torch.from_numpy(order), torch.from_numpy(rows)

    def following(self, pool: int) -> StreamPlace:
        """Return the next pool of the endless stream of passes."""
        return (
            StreamPlace(self.epoch, pool + 1)
            if pool + 2 < len(self.starts)
            else StreamPlace(self.epoch + 1, 0)
        )

    @cached_property
    def _dealt(self) -> Any:
        return np.random.default_rng([self.seed, self.epoch]).permutation(-(-self.n_rows // BLOCK))

    def _blocks(self, pool: int) -> Any:
        return np.sort(self._dealt[pool * POOL_BLOCKS : (pool + 1) * POOL_BLOCKS])


class Pool(NamedTuple):
    """Rows that are shuffled among each other.

    Attributes:
        x: where they lie, `[.., d_in]` in the stored type.
        order: `[m]` int64, index into `x`.
        rows: `[m]` int64, the same as rows of the store.
    """

    x: Tensor
    order: Tensor
    rows: Tensor


class PoolReader:
    """Hands out rows of shuffled passes on one device, and reads one pool ahead.

    A store that is held on that device is indexed where it lies. For any other store, two pools of 65,536
    rows are held: one in use, and one that a thread reads meanwhile, for a GPU through pinned memory. The
    thread ends with the reader; an error in it is raised by the `take` that needs the pool.

    Args:
        store: the activations.
        seed: of the shuffle.
        device: where rows are handed out.
    """

    def __init__(self, store: ActivationStore, seed: int, device: torch.device | str) -> None:
        self.store = store
        self.device = torch.empty(0, device=device).device  # with its index
        self._shuffle = lru_cache(maxsize=2)(partial(Shuffle, len(store), seed))
        self._thread = ThreadPoolExecutor(1, "activations")
        self._buffers: list[Tensor] = []  # used in turn: fresh memory costs more than the copy into it
        self._stream = _stream(self.device)
        self._current: tuple[StreamPlace, Pool] | None = None
        self._ahead: tuple[StreamPlace, Future[Pool]] | None = None

    def take(self, epoch: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return what lies at the places `start..stop-1` of a pass.

        These are activations, `[m, d_in]` in the stored type, and the rows of the store that hold them,
        `[m]`.
        """
        pieces = []
        for index, places in self._shuffle(epoch).find(start, stop):
            pool = self._pool(StreamPlace(epoch, index))
            pieces.append((pool.x.index_select(0, pool.order[places]), pool.rows[places]))
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat([x for x, _ in pieces]), torch.cat([rows for _, rows in pieces])

    def _pool(self, place: StreamPlace) -> Pool:
        if self._current is not None and self._current[0] == place:
            return self._current[1]
        ahead, self._current, self._ahead = self._ahead, None, None
        future = ahead[1] if ahead and ahead[0] == place else self._submit(place)
        pool = self._in_use(future.result())
        following = self._shuffle(place.epoch).following(place.pool)
        self._current, self._ahead = (place, pool), (following, self._submit(following))
        return pool

    def _submit(self, place: StreamPlace) -> Future[Pool]:
        return self._thread.submit(self._read, self._shuffle(place.epoch), place.pool)

    def _read(self, shuffle: Shuffle, index: int) -> Pool:
        order, rows = shuffle.order(index)
        if self.store.x is not None and self.store.device == self.device:
            rows = self._moved(rows)
            return Pool(self.store.x, rows, rows)
        x = self._buffer(len(order))
        start = 0
        for block in shuffle.blocks(index):  # by NumPy, which takes none of the trainer's threads
            x[start : start + len(block)].numpy()[:] = self.store.rows(block.start, block.stop).numpy()
            start += len(block)
        return Pool(self._moved(x), self._moved(order), self._moved(rows))

    def _buffer(self, m: int) -> Tensor:
        if len(self._buffers) < 2:
            size = min(len(self.store), BLOCK * POOL_BLOCKS), self.store.layout.d_in
            x = torch.empty(size, dtype=self.store.dtype, pin_memory=self._stream is not None)
        else:
            x = self._buffers.pop(0)
        self._buffers.append(x)
        return x[:m]

    def _moved(self, tensor: Tensor) -> Tensor:
        """Return a copy on the device; to a GPU it is made beside the training, and done on return."""
        if self._stream is None:
            return tensor.to(self.device)
        with torch.cuda.stream(self._stream):
            moved = tensor.to(self.device, non_blocking=True)
        self._stream.synchronize()
        return moved

    def _in_use(self, pool: Pool) -> Pool:
        if self._stream is not None:
            for tensor in set(pool):
                tensor.record_stream(torch.cuda.current_stream(self.device))
        return pool


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
