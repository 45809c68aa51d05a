"""Filling the store: images through CLIP, once per fingerprint."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, activations_at, capture
from lightning_sae.data.bad_images import BadImages, describe_bad_images
from lightning_sae.data.images import ImageSet, digest
from lightning_sae.data.kept_tokens import keep_tokens
from lightning_sae.data.pixels import load_pixels
from lightning_sae.data.shards import ShardFolder, flatten
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
) -> Path:
    """Stores the final embeddings and targets of all images, and their activations at some hook points.

    What is already there is kept: only missing shards of missing sub-stores are made, all of them in one pass
    of CLIP, on the device that `clip` is on; where the embeddings are there, it stops at the last hook point.
    A second process that captures into the same folder waits.

    Args:
        images: one split.
        clip: the model.
        hook_points: where to capture; none for a judge.
        store_dir: the root of all stores.
        dtype: `float32` or `float16` (half the size, 0.02 % off), of the activations.
        batch_size: images per forward pass.
        shard_images: images per file; a multiple of `batch_size` is fastest.
        num_workers: processes that decode images; `None` chooses (`default_workers`).
        tokens_per_image: how many tokens of each image are kept (`kept_tokens`); `None` keeps all.
        max_bad_images: images that may be bad, a count, or a share below 1. They have no rows in the store,
            and are listed in its manifest.

    Returns:
        The folder, with `images` and one sub-folder per hook point.

    Raises:
        ValueError: other settings in that folder; activations that are not finite or all equal.
        BadImageError: more images than `max_bad_images` cannot be decoded.
        OSError: the disk is full.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    folder = store_folder(store_dir, clip, images)
    folder.mkdir(parents=True, exist_ok=True)
    base = {"format": FORMAT, "clip": _clip_identity(clip), "data": images.identity()}
    own = ShardFolder(folder / "images", flatten(base), len(images), shard_images)
    kept = {} if tokens_per_image is None else {"tokens_per_image": tokens_per_image}
    hooked = {
        hook: ShardFolder(
            hook_folder(folder, hook, tokens_per_image),
            flatten({**base, "hook_point": hook.module, "tokens": hook.tokens, "dtype": dtype, **kept}),
            len(images),
            shard_images,
        )
        for hook in hook_points
    }
    with FileLock(folder / ".lock"):
        missing = {store.folder: store.missing() for store in (own, *hooked.values())}
        if any(missing.values()):
            bad = BadImages(images, max_bad_images, own.bad_images())
            capturing = _Capture(images, clip, own, hooked, missing, DTYPES[dtype], tokens_per_image, bad)
            capturing.run(batch_size, num_workers)
        _check_bad_images(images, max_bad_images, own, hooked)
        _finish(own, hooked)
    return folder


def _finish(own: ShardFolder, hooked: dict[HookPoint, ShardFolder]) -> None:
    if not own.complete:
        own.finish()
    for hook, store in hooked.items():
        if not store.complete:
            store.finish(_statistics(hook, store.moments()))


def _check_bad_images(
    images: ImageSet, limit: float, own: ShardFolder, hooked: dict[HookPoint, ShardFolder]
) -> None:
    """Refuses too many; warns of the others; all parts of the store must lack the same."""
    found = BadImages(images, limit, own.bad_images()).found
    for store in hooked.values():
        check_same_images(own.folder, found, store.folder, store.bad_images())
    if found:
        warnings.warn(f"left out: {describe_bad_images([*found.values()], len(images))}", stacklevel=3)


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


class _Capture:
    """One pass over the images whose shards are missing somewhere."""

    def __init__(
        self,
        images: ImageSet,
        clip: Clip,
        own: ShardFolder,
        hooked: dict[HookPoint, ShardFolder],
        missing: dict[Path, list[int]],
        dtype: torch.dtype,
        tokens_per_image: int | None,
        bad: BadImages,
    ) -> None:
        self.images, self.clip, self.own, self.missing, self.dtype = images, clip, own, missing, dtype
        self.tokens_per_image, self.bad = tokens_per_image, bad
        self.hooked = {hook: store for hook, store in hooked.items() if missing[store.folder]}

    def run(self, batch_size: int, num_workers: int | None) -> None:
        """Fills every missing shard; while one is written, the model is at work on the next."""
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer:
            for shard, parts, bad in self._shards(batch_size, num_workers):
                if writing:
                    writing.result()  # no more than one shard waits to be written
                writing = writer.submit(self._write, shard, parts, bad)
        if writing:
            writing.result()

    def _shards(
        self, batch_size: int, num_workers: int | None
    ) -> Iterator[tuple[int, list[dict[HookPoint | None, Tensor]], dict[int, str]]]:
        """The batches of each and its bad images; none crosses shards: a resumed store has the same bytes."""
        shards = sorted({shard for shards in self.missing.values() for shard in shards})
        batches = [
            (shard, list(ids[start : start + batch_size]))
            for shard, ids in ((shard, self.own.images(shard)) for shard in shards)
            for start in range(0, len(ids), batch_size)
        ]
        parts, bad = [], dict[int, str]()
        title, total = f"capturing {self.images.identity()['name']}", sum(len(ids) for _, ids in batches)
        decoded = load_pixels(self.images, self.clip, [ids for _, ids in batches], num_workers)
        with _progress(title, total) as advance:
            for (shard, ids), (pixels, faults) in zip(batches, decoded, strict=True):
                bad |= self.bad.add(ids, faults)
                good = torch.tensor([not fault for fault in faults])
                parts.append(self._forward(shard, pixels, torch.tensor(ids), good))
                advance(len(ids))
                if ids[-1] + 1 == self.own.images(shard).stop:
                    yield shard, parts, bad
                    parts, bad = [], {}

    @torch.inference_mode()
    def _forward(
        self, shard: int, pixels: Tensor, ids: Tensor, good: Tensor
    ) -> dict[HookPoint | None, Tensor]:
        """What is stored of the good images; bad ones go through CLIP as zeros: batches keep their size."""
        hook_points, parts = list(self.hooked), dict[HookPoint | None, Tensor]()
        pixels = pixels.to(self.clip.device, non_blocking=True)
        if shard in self.missing[self.own.folder]:
            with capture(self.clip, hook_points) as seen:
                parts[None] = self.clip.encode(pixels).float().cpu()[good]
        else:
            seen = activations_at(self.clip, hook_points, pixels)
        for hook in hook_points:
            x = keep_tokens(seen[hook], ids, self.tokens_per_image).to(self.dtype).cpu()[good]
            parts[hook] = self._checked(x, hook, ids[good])
        return parts

    def _checked(self, x: Tensor, hook: HookPoint, ids: Tensor) -> Tensor:
        bad = (~x.isfinite()).flatten(1).any(1)
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} of {len(ids)} images have NaN or infinite activations at {hook} as "
                f"{self.dtype}, the first is image {int(ids[bad][0])}: use data.dtype=float32 and "
                "clip.precision=fp32, or check the checkpoint's weights"
            )
        return x

    def _write(self, shard: int, parts: list[dict[HookPoint | None, Tensor]], bad: dict[int, str]) -> None:
        if shard in self.missing[self.own.folder]:
            ids = [image for image in self.own.images(shard) if image not in bad]
            embeddings = torch.cat([part[None] for part in parts])
            self.own.write(shard, {"embeddings": embeddings, "targets": self.images.targets[ids]}, bad)
        for hook, store in self.hooked.items():
            if shard in self.missing[store.folder]:
                x = torch.cat([part[hook] for part in parts])
                moments = Moments.of(x.flatten(0, 1))
                spread = torch.tensor(moments.spread, dtype=torch.float64)
                store.write(shard, {"x": x, "mean": moments.mean, "spread": spread}, bad)


class _Speed(ProgressColumn):
    """Images per second since the start."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / (task.elapsed or 1):.0f} images/s", style="progress.data.speed")


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n: progress.advance(task, n)


def _clip_identity(clip: Clip) -> dict[str, Any]:
    # not "pretrained": the weights' hash says what they are, wherever they were loaded from
    return {key: value for key, value in clip.identity().items() if key in ("model", "weights", "preprocess")}
