"""Images through CLIP, shard by shard: what is stored of each batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, HookShape, activations_at, capture
from lightning_sae.data.bad_images import BadImages
from lightning_sae.data.images import ImageSet
from lightning_sae.data.kept_tokens import keep_tokens
from lightning_sae.data.pixels import default_workers, load_pixels

DTYPES = {"float32": torch.float32, "float16": torch.float16}

Activations = dict[HookPoint | None, Tensor]
"""What a batch gave: the embeddings, under `None`, and the tokens at each hook point."""


class Part(NamedTuple):
    """A shard that this process has claimed, and what is missing of it."""

    shard: int
    ids: range
    own: bool
    hook_points: list[HookPoint]


class Captured(NamedTuple):
    """A part, what its batches gave, and its bad images, id -> message."""

    part: Part
    batches: list[Activations]
    bad: dict[int, str]


class ClipPass:
    """Decodes the images of parts and runs CLIP on them; batches never cross parts.

    Args:
        images: one split.
        clip: the model, on the device where it is to run.
        hook_points: those that parts may name.
        dtype: of the activations.
        batch_size: images per forward pass.
        num_workers: processes that decode images; `None` chooses (`default_workers`).
        tokens_per_image: how many tokens of each image are kept; `None` keeps all.
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
    ) -> None:
        self.images, self.clip, self.hook_points = images, clip, list(hook_points)
        self.dtype, self.batch_size, self.num_workers = dtype, batch_size, num_workers
        self.tokens_per_image = tokens_per_image

    @cached_property
    @torch.inference_mode()
    def _shapes(self) -> dict[HookPoint, HookShape]:
        blank: Any = "" if self.clip.reads_texts else Image.new("RGB", self.clip.image_size)
        inputs = torch.zeros_like(self.clip.preprocess(blank)[None], device=self.clip.device)
        seen = activations_at(self.clip, self.hook_points, inputs)
        return {hook: HookShape(*seen[hook].shape[1:]) for hook in self.hook_points}

    def bytes_per_image(self, hook: HookPoint | None) -> int:
        """Of the activations at a hook point, or of embedding and target."""
        if hook is None:
            return 4 * self.clip.embed_dim + 8
        shape = self._shapes[hook]
        return (self.tokens_per_image or shape.tokens) * shape.d_in * self.dtype.itemsize

    def run(
        self, parts: Iterable[Part], ranges: Iterable[range], met: BadImages, advance: Callable[[int], None]
    ) -> Iterator[Captured]:
        """Captures parts one after the other; each is taken as its images are decoded.

        Args:
            parts: what is to be made.
            ranges: ids of all images that may come, which tell how many workers are worth starting.
            met: counts the bad images.
            advance: is told how many images are through.
        """
        ahead = deque[tuple[Part, range]]()

        def batches() -> Iterator[range]:
            for part in parts:
                for ids in self._batches(part.ids):
                    ahead.append((part, ids))
                    yield ids

        done, bad = list[Activations](), dict[int, str]()
        for pixels, faults in load_pixels(self.images, self.clip, batches(), self._workers(ranges)):
            part, ids = ahead.popleft()
            bad |= met.add(ids, faults)
            done.append(self._forward(part, pixels, torch.tensor(ids), torch.tensor([not f for f in faults])))
            advance(len(ids))
            if ids.stop == part.ids.stop:
                yield Captured(part, done, bad)
                done, bad = [], {}

    def _workers(self, ranges: Iterable[range]) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return default_workers(self.clip, [ids for images in ranges for ids in self._batches(images)])

    def _batches(self, ids: range) -> list[range]:
        return [ids[start : start + self.batch_size] for start in range(0, len(ids), self.batch_size)]

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
            x = keep_tokens(seen[hook], ids, self.tokens_per_image).to(self.dtype).cpu()[good]
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
