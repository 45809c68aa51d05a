"""Batches straight from the store: shuffled and resumable for training, in image order for validation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_sae.data.loading.shuffle import PoolReader
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.mappings import differences
from lightning_sae.types import Batch


class TrainLoader:
    """An endless stream of shuffled passes over the store, handed out one pass per iteration.

    Each pass gives every row once, less a remainder below one batch. The stream has a position: what follows
    depends on (seed, position) alone, so a run that is resumed from `state_dict` repeats and skips nothing,
    wherever Lightning ends its epochs, and wherever the store is held: it is shuffled by blocks of 256 rows,
    then within pools of 256 blocks (`Shuffle`). The batches of all processes at one position, in the order of
    their ranks, are the batch of one process that takes as many rows.

    Args:
        store: the activations.
        targets: `[n_images]` class of each image.
        batch_size: rows per batch and process.
        seed: of the shuffle.
        rank: this process.
        world_size: number of processes; each gets its own part of every pass.
        device: where batches are handed out; `None` is where the store is held.
        earlier: stores of the same tokens at earlier hook points, whose rows are handed out beside.

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
        device: torch.device | str | None = None,
        earlier: Sequence[ActivationStore] = (),
    ) -> None:
        if not 1 <= batch_size * world_size <= len(store):
            raise ValueError(
                f"batch_size x processes must be in 1..{len(store)}, the rows of the train store, got "
                f"{batch_size} x {world_size}"
            )
        self.store, self.batch_size, self.seed = store, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.position = 0
        self._reader = PoolReader(store, seed, device or store.device)
        self._earlier = [PoolReader(each, seed, self._reader.device) for each in earlier]
        self.targets = targets.to(self._reader.device)

    def __len__(self) -> int:
        return len(self.store) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            batch = self._batch(*divmod(self.position, len(self)))
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the position in the stream, and what gives the position its meaning.

        The position counts batches of all processes together.
        """
        return {**self._meaning(), "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken.

        Raises:
            ValueError: with another seed, store or number of rows per step there is no such place.
        """
        meaning = self._meaning()
        changed = differences({key: state.get(key) for key in meaning}, meaning)
        if changed:
            raise ValueError(
                f"cannot resume in the middle of the data, these changed: {', '.join(changed)}; with another "
                "number of processes set data.batch_size so that global_batch, their product, stays"
            )
        self.position = state["position"]

    def _meaning(self) -> dict[str, int]:
        return {
            "rows": len(self.store),
            "global_batch": self.batch_size * self.world_size,
            "seed": self.seed,
        }

    def _batch(self, epoch: int, index: int) -> Batch:
        start = (index * self.world_size + self.rank) * self.batch_size
        x, rows = self._reader.take(epoch, start, start + self.batch_size)
        image_ids = self.store.owners(rows)
        earlier = (reader.take(epoch, start, start + self.batch_size)[0].float() for reader in self._earlier)
        return Batch(x.float(), image_ids, self.targets[image_ids], earlier=tuple(earlier))


class EvalLoader:
    """Every row once, in the order of the images, whole images per batch, with their embeddings.

    Processes share the batches, each gets a run of them. The batches are those that one process would have,
    so that numbers have the same bits on any number of processes; they are smaller only if there would be
    too few.

    Args:
        store: the activations.
        targets: `[n_images]`.
        embeddings: `[n_images, d_embed]` unit, of the audited CLIP.
        batch_size: rows per batch; at least the tokens of one image.
        rank: this process.
        world_size: number of processes.
        device: where batches are handed out; `None` is where the store is held.
        earlier: stores of the same tokens at earlier hook points, whose rows are handed out beside.

    Raises:
        ValueError: fewer images than processes, of which one would have nothing to do.
    """

    def __init__(
        self,
        store: ActivationStore,
        targets: Tensor,
        embeddings: Tensor,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
        earlier: Sequence[ActivationStore] = (),
    ) -> None:
        n = store.layout.n_images
        if n < world_size:
            raise ValueError(f"{n} images are too few for {world_size} processes: set trainer.devices={n}")
        step = max(1, min(batch_size // store.layout.tokens, n // world_size))
        chunks = [range(n)[i : i + step] for i in range(0, n, step)]
        first, last = (len(chunks) * i // world_size for i in (rank, rank + 1))
        self.store, self.earlier, self.chunks = store, earlier, chunks[first:last]
        self.device = device or store.device
        self.targets, self.embeddings = targets.to(self.device), embeddings.to(self.device)

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Batch]:
        for chunk in self.chunks:
            start, stop = self.store.first_row(chunk.start), self.store.first_row(chunk.stop)
            x, *earlier = (
                each.rows(start, stop).to(self.device).float() for each in (self.store, *self.earlier)
            )
            ids = self.store.owners(torch.arange(start, stop, device=self.device))
            yield Batch(x, ids, self.targets[ids], self.embeddings[ids], tuple(earlier))
