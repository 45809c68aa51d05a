"""Batches of a capture, checked and put together into shards on the disk."""

from collections import Counter

import torch
from torch import Tensor

from lightning_sae.data.capture.clip_pass import CapturedBatch
from lightning_sae.data.claims import Claims
from lightning_sae.data.store.split_store import Activations, Captured, SplitStore


class ShardWriter:
    """Takes batch after batch, writes each shard that is whole, and gives its claim back.

    A shard whose claim was lost, as after a stop of the process, is left to the process that has it now.

    Args:
        store: where the shards go.
        claims: those of the shards.
        tower: of CLIP that the batches come from, in words.

    Attributes:
        written: shards so far.
    """

    def __init__(self, store: SplitStore, claims: Claims, tower: str) -> None:
        self._store, self._claims, self._tower = store, claims, tower
        self._start()
        self.written = 0

    def take(self, batch: CapturedBatch) -> None:
        """Wait until the batch has arrived on the host, and keep the rows of its good images.

        Raises:
            ValueError: activations or embeddings that are not finite.
            OSError: the shard cannot be written.
        """
        batch.arrived()
        self._batches.append(_good_rows(batch, self._tower))
        self._bad |= batch.bad
        self._notes += batch.notes
        if batch.last:
            if self._claims.holds(batch.part.shard):
                self._store.write(Captured(batch.part, self._batches, self._bad, self._notes))
                self.written += 1
            self._claims.release(batch.part.shard)
            self._start()

    def _start(self) -> None:
        self._batches, self._bad, self._notes = list[Activations](), dict[int, str](), Counter[str]()


def _good_rows(batch: CapturedBatch, tower: str) -> Activations:
    good = torch.tensor([image not in batch.bad for image in batch.ids])
    rows = {hook: x[good] for hook, x in batch.activations.items()}
    ids = torch.tensor(batch.ids)[good]
    for hook in batch.part.hook_points:
        _check_finite(rows[hook], f"activations at {hook} as {rows[hook].dtype}", ids)
    if batch.part.own:
        _check_finite(rows[None], f"embeddings by {tower}", ids)
    return rows


def _check_finite(x: Tensor, what: str, ids: Tensor) -> None:
    bad = (~x.isfinite()).flatten(1).any(1)
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(ids)} images have NaN or infinite {what}, the first is image "
            f"{int(ids[bad][0])}: use data.dtype=float32 and clip.precision=fp32, or check the "
            "weights of the checkpoint"
        )
