"""Filling the store: images through CLIP, once per fingerprint."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any

from lightning_sae.clip import Clip, HookPoint
from lightning_sae.data.capture.background import hand_over, one_ahead
from lightning_sae.data.capture.clip_pass import DTYPES, ClipPass
from lightning_sae.data.capture.shard_writer import ShardWriter
from lightning_sae.data.claims import Claims, alone
from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.data.store.space import check_space
from lightning_sae.data.store.split_store import ClaimedShard, SplitStore
from lightning_sae.files import writable
from lightning_sae.progress import progress


def capture_store(
    images: ImageSet, clip: Clip, hook_points: Sequence[HookPoint] = (), **settings: Any
) -> Path:
    """Store the final embeddings and targets of all images, and their activations at some hook points.

    Args:
        images: one split.
        clip: the model.
        hook_points: where to capture; none for a judge.
        settings: the further arguments of `Capture`.

    Returns:
        The folder, with `images` and one sub-folder per hook point; see `Capture.fill`.
    """
    return Capture(images, clip, hook_points, **settings).fill()


class Capture:
    """One split through one CLIP: which shards are missing, and how they are made.

    A shard is a function of its number: batches never cross shards, and nothing in it tells when, where or by
    whom it was made. So any number of processes, on any machines that see the folder, may work at the same
    time: each claims a shard, makes what is missing of it, and goes on to the next that is free. Shards are
    claimed and written in threads of their own, so that the model waits for neither a lock nor a disk.

    Args:
        images: one split.
        clip: the model, on the device where it is to run.
        hook_points: where to capture; none for a judge.
        store_dir: the root of all stores; `None` is the user's cache folder.
        dtype: `float32` or `float16` (half the size, 0.02 % off), of the activations.
        batch_size: images per forward pass.
        shard_images: images per file; a multiple of `batch_size` is fastest.
        num_workers: processes that decode images; `None` chooses (`default_workers`).
        tokens_per_image: how many tokens of each image are kept (`kept_tokens`); `None` keeps all.
        max_bad_images: images that may be bad, a count, or a share below 1. They have no rows in the store,
            and are listed in its manifest.
        processes: of this machine that capture at the same time, and share its cores.

    Attributes:
        folder: holds `images` and one sub-folder per hook point.
        processes: as given.
    """

    def __init__(
        self,
        images: ImageSet,
        clip: Clip,
        hook_points: Sequence[HookPoint] = (),
        *,
        store_dir: str | Path | None = None,
        dtype: str = "float32",
        batch_size: int = 256,
        shard_images: int = 1024,
        num_workers: int | None = None,
        tokens_per_image: int | None = None,
        max_bad_images: float = 0,
        processes: int = 1,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        self._dtype = dtype
        self._store = SplitStore(
            images, clip, hook_points, store_dir, dtype, shard_images, tokens_per_image, max_bad_images
        )
        self._pass = ClipPass(
            images, clip, hook_points, DTYPES[dtype], batch_size, num_workers, tokens_per_image, processes
        )
        # batches of one shard may wait while another is written: memory holds two shards
        self._most_waiting = max(2, shard_images // batch_size)
        self.folder = self._store.folder
        self._claims = Claims(self.folder / ".claims", shard_images)
        self.processes = processes
        self._by = "" if hook_points else ", by the judge"
        self._prepared = False

    @property
    def complete(self) -> bool:
        """True if everything is there, as far as names and sizes tell; changes nothing."""
        return self._store.complete

    def missing(self) -> list[int]:
        """Return the shards of which something is missing; change nothing.

        Raises:
            ValueError: a folder was made with other settings.
        """
        return self._store.missing()

    def bytes_missing(self) -> int:
        """Return how much is still to be written."""
        return sum(
            self._store.bytes_missing(hook, self._pass.bytes_per_image(hook))
            for hook, folder in self._store.parts.items()
            if folder.missing()
        )

    def fill(self) -> Path:
        """Capture whatever is missing, with all processes that do the same, and return the folder.

        What is there is kept, and nothing of a complete store is touched or locked: it may be read-only. All
        that is missing of a shard is made in one pass of CLIP; if the embeddings are there already, the pass
        ends at the last hook point. Shards that others are at work on are waited for; those of a process that
        died are taken over.

        Raises:
            ValueError: other settings in that folder; activations or embeddings that are not finite,
                or activations that are all equal.
            BadImageError: more images than `max_bad_images` cannot be decoded.
            PermissionError: something is missing, and the folder cannot be written.
            OSError: the disk is full, or will be.
        """
        if self.complete:
            self._store.check_bad_images()
            return self.folder
        self._check_writable()
        check_space([self], self._dtype)
        while not self._finish():
            self._prepare()
            if not self.capture_shards(self.missing()):
                self._claims.wait(f"capture of {self.folder}")
        self._store.report_decoding()
        self._claims.tidy()
        return self.folder

    def capture_shards(self, shards: Iterable[int]) -> int:
        """Make what is missing of the shards that nobody else is at work on, and return how many it made."""
        shards = list(shards)
        if not self._prepared:
            self._prepare()
        self._claims.ended.clear()
        with ExitStack() as end:
            end.callback(self._claims.release_all)
            claimed = end.enter_context(closing(one_ahead(self._claim(shards))))
            end.callback(self._claims.ended.set)  # else its thread, which may wait for others, is waited for
            first = next(claimed, None)
            return 0 if first is None else self._run(chain([first], claimed), shards)

    def _check_writable(self) -> None:
        if not writable(self.folder):
            raise PermissionError(
                f"{len(self.missing())} shards of {self.folder} are missing, and it cannot be written: "
                "have its owner capture them, or choose another with data.store_dir=DIR"
            )

    def _finish(self) -> bool:
        """Write the manifests, unless a shard is missing; return whether they are written.

        Claiming the number after the last shard keeps out processes that cut the store into shards of another
        size.
        """
        end = self._store.own.n_shards
        if self.missing() or not self._claims.take(end):
            return False
        try:
            with alone(self._claims.folder / "manifest.lock", f"manifest of {self.folder}"):
                self._store.look_again()
                if self.missing() or not self._claims.holds(end):
                    return False
                self._store.check_bad_images()
                self._store.finish()
        finally:
            self._claims.release(end)
        return True

    def _prepare(self) -> None:
        with alone(self._claims.folder / "manifest.lock", f"repair of {self.folder}"):
            self._store.withdraw()
        self._prepared = True

    def _claim(self, shards: Iterable[int]) -> Iterator[ClaimedShard]:
        """Claim shards, and yield those of which something is still missing once they are claimed."""
        for shard in shards:
            if not self._claims.take(shard):
                continue
            if part := self._store.lacks(shard):
                yield part
            else:
                self._claims.release(shard)

    def _run(self, parts: Iterable[ClaimedShard], shards: Sequence[int]) -> int:
        """Capture shards: while batches are taken over and written, the model is at work on the next."""
        ranges = [self._store.own.images(shard) for shard in shards]
        writer = ShardWriter(self._store, self._claims, self._pass.clip.tower)
        title = f"capturing {self._store.images.identity()['name']}{self._by}"
        with progress(title, sum(map(len, ranges)), "images") as advance:
            batches = self._pass.run(parts, ranges, self._store.bad_images(), advance)
            hand_over(batches, writer.take, self._most_waiting)
        return writer.written
