"""Images through CLIP, batch by batch: what is stored of each, on its way to the host."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, HookShape, activations_at, capture
from lightning_sae.data.capture.kept_tokens import keep_tokens
from lightning_sae.data.capture.pixels import default_workers, load_pixels
from lightning_sae.data.images.bad_images import BadImages
from lightning_sae.data.images.image_set import ImageSet
from lightning_sae.data.store.split_store import Activations, ClaimedShard

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class CapturedBatch(NamedTuple):
    """The result of a batch of a part.

    Attributes:
        part: what it is a batch of.
        ids: of its images.
        activations: a row per image, also for the bad ones; not to be read before they have arrived.
        bad: its bad images, id -> message.
        notes: way of decoding -> number of its images.
        arrived: waits until they are on the host.
    """

    part: ClaimedShard
    ids: range
    activations: Activations
    bad: dict[int, str]
    notes: Counter[str]
    arrived: Callable[[], object]

    @property
    def last(self) -> bool:
        """True if it completes its part."""
        return self.ids.stop == self.part.ids.stop


class ClipPass:
    """Decodes the images of parts and runs CLIP on them; batches never cross parts.

    The device is never waited for: while it is at work on a batch, the next ones are decoded and queued.

    Args:
        images: one split.
        clip: the model, on the device where it is to run.
        hook_points: those that parts may name.
        dtype: of the activations.
        batch_size: images per forward pass.
        num_workers: processes that decode images; `None` chooses (`default_workers`).
        tokens_per_image: how many tokens of each image are kept; `None` keeps all.
        processes: of this machine that capture at the same time, and share its cores.
    """

    def __init__(
        self,
        images: ImageSet,
        clip: Clip,
        hook_points: Iterable[HookPoint],
        dtype: torch.dtype,
        batch_size: int,
        num_workers: int | None,
        tokens_per_image: int | None,
        processes: int,
    ) -> None:
        self.images, self.clip, self.hook_points = images, clip, list(hook_points)
        self.dtype, self.batch_size, self.num_workers = dtype, batch_size, num_workers
        self.tokens_per_image, self.processes = tokens_per_image, processes

    @cached_property
    @torch.inference_mode()
    def _shapes(self) -> dict[HookPoint, HookShape]:
        inputs = torch.zeros_like(self.clip.preprocess(self.clip.blank)[None], device=self.clip.device)
        seen = activations_at(self.clip, self.hook_points, inputs)
        return {hook: HookShape(*seen[hook].shape[1:]) for hook in self.hook_points}

    def bytes_per_image(self, hook: HookPoint | None) -> int:
        """Return the bytes of an image's activations at a hook point, or of its embedding and target."""
        if hook is None:
            return 4 * self.clip.embed_dim + 8
        shape = self._shapes[hook]
        return (self.tokens_per_image or shape.tokens) * shape.d_in * self.dtype.itemsize

    def run(
        self,
        parts: Iterable[ClaimedShard],
        ranges: Iterable[range],
        met: BadImages,
        advance: Callable[[int], None],
    ) -> Iterator[CapturedBatch]:
        """Capture parts one after the other; each is taken as its images are decoded.

        Args:
            parts: what is to be made.
            ranges: ids of all images that may come, which tell how many workers are worth starting.
            met: counts the bad images.
            advance: is told how many images are through.
        """
        ahead = deque[tuple[ClaimedShard, range]]()

        def batches() -> Iterator[range]:
            for part in parts:
                for ids in self._batches(part.ids):
                    ahead.append((part, ids))
                    yield ids

        workers = self._workers(ranges)
        for pixels, faults, notes in load_pixels(self.images, self.clip, batches(), self.batch_size, workers):
            part, ids = ahead.popleft()
            bad = met.add(ids, faults)
            activations = self._forward(part, pixels, torch.tensor(ids))
            yield CapturedBatch(part, ids, activations, bad, notes, _arrival(self.clip.device))
            advance(len(ids))

    def _workers(self, ranges: Iterable[range]) -> int:
        if self.num_workers is not None:
            return self.num_workers
        batches = [ids for images in ranges for ids in self._batches(images)]
        return default_workers(self.clip, batches, self.processes)

    def _batches(self, ids: range) -> list[range]:
        return [ids[start : start + self.batch_size] for start in range(0, len(ids), self.batch_size)]

    @torch.inference_mode()
    def _forward(self, part: ClaimedShard, pixels: Tensor, ids: Tensor) -> Activations:
        """Return the tensors to store; bad images go through CLIP as well, so batches keep their size."""
        found = Activations()
        inputs = self.clip.finish(pixels.to(self.clip.device, non_blocking=True))
        if part.own:
            with capture(self.clip, part.hook_points) as seen:
                found[None] = self._to_host(self.clip.encode(inputs).float())
        else:
            seen = activations_at(self.clip, part.hook_points, inputs)
        for hook in part.hook_points:
            found[hook] = self._to_host(keep_tokens(seen[hook], ids, self.tokens_per_image).to(self.dtype))
        return found

    def _to_host(self, x: Tensor) -> Tensor:
        """Return a copy that arrives in pinned memory without being waited for, where the device is a GPU."""
        return x.to("cpu", non_blocking=_is_gpu(self.clip.device))


def _arrival(device: torch.device) -> Callable[[], object]:
    """Return a function that waits for all that a device has been given, without keeping a core busy."""
    if not _is_gpu(device):
        return lambda: None
    event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda"
