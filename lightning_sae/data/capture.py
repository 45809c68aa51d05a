"""Filling the store: images through CLIP, once per fingerprint."""

import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import torch
from PIL import Image
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, HookShape, activations_at, capture
from lightning_sae.data.atomic import writable
from lightning_sae.data.bad_images import BadImages, describe_bad_images
from lightning_sae.data.bars import bar
from lightning_sae.data.images import ImageSet, digest
from lightning_sae.data.kept_tokens import keep_tokens
from lightning_sae.data.locks import Claims, alone
from lightning_sae.data.manifest import flatten
from lightning_sae.data.pixels import default_workers, load_pixels
from lightning_sae.data.shards import ShardFolder
from lightning_sae.data.space import SHARD_HEAD, check_space
from lightning_sae.data.statistics import ActivationStatistics, Moments

FORMAT = 1
"""Raised when what is stored changes its meaning."""

DTYPES = {"float32": torch.float32, "float16": torch.float16}


def store_folder(store_dir: str | Path | None, clip: Clip, images: ImageSet) -> Path:
    """Folder of one CLIP on one split: readable names and a hash of both identities.

    `store_dir=None` is the user's cache folder.
    """
    root = Path(store_dir).expanduser() if store_dir else platformdirs.user_cache_path("lightning_sae")
    data = images.identity()
    names = [Path(clip.name).name, clip.pretrained or "random", data["name"]]
    readable = re.sub("[^A-Za-z0-9._-]+", "-", "-".join(names))[:100]
    return root / f"{readable}-{digest([_clip_identity(clip), data])[:12]}"


def hook_folder(folder: Path, hook_point: HookPoint, tokens_per_image: int | None = None) -> Path:
    """Where the activations of a hook point lie inside a `store_folder`."""
    name = f"{hook_point.module}-{hook_point.tokens}"
    return folder / (name if tokens_per_image is None else f"{name}-{tokens_per_image}")


def capture_store(
    images: ImageSet, clip: Clip, hook_points: Sequence[HookPoint] = (), **settings: Any
) -> Path:
    """Stores the final embeddings and targets of all images, and their activations at some hook points.

    Args:
        images: one split.
        clip: the model.
        hook_points: where to capture; none for a judge.
        settings: the further arguments of `Capture`.

    Returns:
        The folder, with `images` and one sub-folder per hook point; see `Capture.fill`.
    """
    return Capture(images, clip, hook_points, **settings).fill()


Activations = dict[HookPoint | None, Tensor]
"""What a batch gave: the embeddings, under `None`, and the tokens at each hook point."""


class Part(NamedTuple):
    """A shard that this process has claimed, and what is missing of it."""

    shard: int
    ids: range
    own: bool
    hook_points: list[HookPoint]


class Capture:
    """One split through one CLIP: which shards are missing, and how they are made.

    A shard is a function of its number: batches never cross shards, and nothing in it tells when, where or by
    whom it was made. So any number of processes, on any machines that see the folder, may work at the same
    time: each claims a shard, makes what is missing of it, and goes on to the next that is free.

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

    Attributes:
        folder: holds `images` and one sub-folder per hook point.
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
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        self.images, self.clip = images, clip
        self.dtype, self.batch_size, self.num_workers = dtype, batch_size, num_workers
        self.tokens_per_image, self.max_bad_images = tokens_per_image, max_bad_images
        self.folder = store_folder(store_dir, clip, images)
        base = {"format": FORMAT, "clip": _clip_identity(clip), "data": images.identity()}
        kept = {} if tokens_per_image is None else {"tokens_per_image": tokens_per_image}
        n = len(images)
        self.own = ShardFolder(self.folder / "images", flatten(base), n, shard_images)
        self.hooked = {
            hook: ShardFolder(
                hook_folder(self.folder, hook, tokens_per_image),
                flatten({**base, "hook_point": hook.module, "tokens": hook.tokens, "dtype": dtype, **kept}),
                n,
                shard_images,
            )
            for hook in hook_points
        }
        self._claims = Claims(self.folder / ".claims", shard_images)
        self._prepared = False

    @property
    def complete(self) -> bool:
        """Whether everything is there, as far as names and sizes tell; changes nothing."""
        return not self.missing() and all(store.complete for store in self._stores)

    def missing(self) -> list[int]:
        """The shards of which something is missing; changes nothing.

        Raises:
            ValueError: a folder was made with other settings.
        """
        return sorted({shard for store in self._stores for shard in store.missing()})

    def bytes_missing(self) -> int:
        """How much is still to be written."""
        own = self._bytes(self.own, 4 * self.clip.embed_dim + 8) if self.own.missing() else 0
        itemsize = DTYPES[self.dtype].itemsize
        hooked = [
            self._bytes(store, self._tokens(hook) * self._shapes[hook].d_in * itemsize)
            for hook, store in self.hooked.items()
            if store.missing()
        ]
        return own + sum(hooked)

    def fill(self) -> Path:
        """Captures whatever is missing, together with all processes that do the same; the folder.

        What is there is kept, and of a complete store nothing is touched or locked: it may be read-only. All
        that is missing of a shard is made in one pass of CLIP, which ends at the last hook point where the
        embeddings are there. Shards that others are at work on are waited for; those of a process that died
        are taken over.

        Raises:
            ValueError: other settings in that folder; activations that are not finite or all equal.
            BadImageError: more images than `max_bad_images` cannot be decoded.
            PermissionError: something is missing, and the folder cannot be written.
            OSError: the disk is full, or will be.
        """
        if self.complete:
            self._check_bad_images()
            return self.folder
        self._check_writable()
        check_space([self], self.dtype)
        while missing := self.missing():
            self._prepare()
            if not self.capture_shards(missing):
                self._claims.wait(f"capture of {self.folder}")
        self._finish()
        return self.folder

    def capture_shards(self, shards: Iterable[int]) -> int:
        """Makes what is missing of some shards, less those that others are at work on; how many it made."""
        shards = list(shards)
        if not self._prepared:
            self._prepare()
        try:
            claimed = self._claim(shards)
            first = next(claimed, None)
            return 0 if first is None else self._run(chain([first], claimed), shards)
        finally:
            self._claims.release_all()

    @property
    def _stores(self) -> list[ShardFolder]:
        return [self.own, *self.hooked.values()]

    @cached_property
    @torch.inference_mode()
    def _shapes(self) -> dict[HookPoint, HookShape]:
        blank: Any = "" if self.clip.reads_texts else Image.new("RGB", self.clip.image_size)
        inputs = torch.zeros_like(self.clip.preprocess(blank)[None], device=self.clip.device)
        seen = activations_at(self.clip, list(self.hooked), inputs)
        return {hook: HookShape(*seen[hook].shape[1:]) for hook in self.hooked}

    def _tokens(self, hook: HookPoint) -> int:
        return self.tokens_per_image or self._shapes[hook].tokens

    def _bytes(self, store: ShardFolder, per_image: int) -> int:
        return sum(len(store.images(shard)) * per_image + SHARD_HEAD for shard in store.missing())

    def _check_writable(self) -> None:
        if not writable(self.folder):
            raise PermissionError(
                f"{len(self.missing())} shards of {self.folder} are missing, and it cannot be written: "
                "have its owner capture them, or choose another with data.store_dir=DIR"
            )

    def _prepare(self) -> None:
        with alone(self._claims.folder / "manifest.lock", f"repair of {self.folder}"):
            for store in self._stores:
                if store.missing():
                    store.withdraw()
        self._prepared = True

    def _claim(self, shards: Iterable[int]) -> Iterator[Part]:
        """Those of which something is still missing once they are claimed."""
        for shard in shards:
            if not self._claims.take(shard):
                continue
            hook_points = [hook for hook, store in self.hooked.items() if self._lacks(store, shard)]
            if (own := self._lacks(self.own, shard)) or hook_points:
                yield Part(shard, self.own.images(shard), own, hook_points)
            else:
                self._claims.release(shard)

    @staticmethod
    def _lacks(store: ShardFolder, shard: int) -> bool:
        return not store.complete and not store.present(shard)

    def _run(self, parts: Iterable[Part], shards: Sequence[int]) -> int:
        """While one shard is written, the model is at work on the next."""
        writing: Future[None] | None = None
        count, total = 0, sum(len(self.own.images(shard)) for shard in shards)
        title = f"capturing {self.images.identity()['name']}"
        with ThreadPoolExecutor(1) as writer, bar(title, total, "images") as advance:
            for part, batches, bad in self._captured(parts, self._workers(shards), advance):
                if writing:
                    writing.result()  # no more than one shard waits to be written
                writing = writer.submit(self._write, part, batches, bad)
                count += 1
            if writing:
                writing.result()
        return count

    def _workers(self, shards: Iterable[int]) -> int:
        batches = [ids for shard in shards for ids in self._batches(self.own.images(shard))]
        return default_workers(self.clip, batches) if self.num_workers is None else self.num_workers

    def _batches(self, ids: range) -> list[range]:
        return [ids[start : start + self.batch_size] for start in range(0, len(ids), self.batch_size)]

    def _captured(
        self, parts: Iterable[Part], num_workers: int, advance: Callable[[int], None]
    ) -> Iterator[tuple[Part, list[Activations], dict[int, str]]]:
        """Each part with what its batches gave, and its bad images; parts are claimed as they are decoded."""
        met = BadImages(self.images, self.max_bad_images, self.own.bad_images())
        ahead = deque[tuple[Part, range]]()

        def batches() -> Iterator[range]:
            for part in parts:
                for ids in self._batches(part.ids):
                    ahead.append((part, ids))
                    yield ids

        done, bad = list[Activations](), dict[int, str]()
        for pixels, faults in load_pixels(self.images, self.clip, batches(), num_workers):
            part, ids = ahead.popleft()
            bad |= met.add(ids, faults)
            done.append(self._forward(part, pixels, torch.tensor(ids), torch.tensor([not f for f in faults])))
            advance(len(ids))
            if ids.stop == part.ids.stop:
                yield part, done, bad
                done, bad = [], {}

    @torch.inference_mode()
    def _forward(self, part: Part, pixels: Tensor, ids: Tensor, good: Tensor) -> Activations:
        """What is stored of the good images; bad ones go through CLIP as zeros: batches keep their size."""
        found = Activations()
        pixels = pixels.to(self.clip.device, non_blocking=True)
        if part.own:
            with capture(self.clip, part.hook_points) as seen:
                found[None] = self.clip.encode(pixels).float().cpu()[good]
        else:
            seen = activations_at(self.clip, part.hook_points, pixels)
        for hook in part.hook_points:
            x = keep_tokens(seen[hook], ids, self.tokens_per_image).to(DTYPES[self.dtype]).cpu()[good]
            found[hook] = self._checked(x, hook, ids[good])
        return found

    def _checked(self, x: Tensor, hook: HookPoint, ids: Tensor) -> Tensor:
        bad = (~x.isfinite()).flatten(1).any(1)
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} of {len(ids)} images have NaN or infinite activations at {hook} as "
                f"{x.dtype}, the first is image {int(ids[bad][0])}: use data.dtype=float32 and "
                "clip.precision=fp32, or check the checkpoint's weights"
            )
        return x

    def _write(self, part: Part, batches: list[Activations], bad: dict[int, str]) -> None:
        if part.own:
            ids = [image for image in part.ids if image not in bad]
            embeddings = torch.cat([batch[None] for batch in batches])
            tensors = {"embeddings": embeddings, "targets": self.images.targets[ids]}
            self.own.write(part.shard, tensors, bad)
        for hook in part.hook_points:
            x = torch.cat([batch[hook] for batch in batches])
            moments = Moments.of(x.flatten(0, 1))
            spread = torch.tensor(moments.spread, dtype=torch.float64)
            self.hooked[hook].write(part.shard, {"x": x, "mean": moments.mean, "spread": spread}, bad)
        self._claims.release(part.shard)

    def _check_bad_images(self) -> None:
        """Refuses too many; warns of the others; all parts of the store must lack the same."""
        found = BadImages(self.images, self.max_bad_images, self.own.bad_images()).found
        for store in self.hooked.values():
            check_same_images(self.own.folder, found, store.folder, store.bad_images())
        if found:
            text = describe_bad_images([*found.values()], len(self.images))
            warnings.warn(f"left out: {text}", stacklevel=3)

    def _finish(self) -> None:
        with alone(self._claims.folder / "manifest.lock", f"manifest of {self.folder}"):
            self._check_bad_images()
            if not self.own.complete:
                self.own.finish()
            for hook, store in self.hooked.items():
                if not store.complete:
                    store.finish(_statistics(hook, store.moments()))
        self._claims.tidy()


def check_same_images(folder: Path, bad: Iterable[int], other: Path, bad_there: Iterable[int]) -> None:
    """Rows of two parts of a store are of the same images.

    Raises:
        ValueError: other images were bad when the other part was captured.
    """
    if changed := sorted({*bad} ^ {*bad_there}):
        raise ValueError(
            f"{len(changed)} images could be decoded for only one of {folder} and {other}, the first is "
            f"image {changed[0]}: delete both folders and capture again with one version of Pillow"
        )


def _statistics(hook: HookPoint, moments: Moments) -> ActivationStatistics:
    if moments.spread == 0:
        raise ValueError(
            f"all {moments.n} activations at {hook} are equal: the hook point does not depend on the "
            "image, or all images are the same; choose another hook_point or check data.root"
        )
    return moments.statistics()


def _clip_identity(clip: Clip) -> dict[str, Any]:
    # not "pretrained": the weights' hash says what they are, wherever they were loaded from
    return {key: value for key, value in clip.identity().items() if key in ("model", "weights", "preprocess")}
