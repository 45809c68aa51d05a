"""What bf16 weights and a less exact decoding change, and what they gain on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, capture
from lightning_sae.data.capture.pixels import Decoded, load_pixels
from lightning_sae.data.images.image_set import ImageSet

R = TypeVar("R")


class Precision(NamedTuple):
    """A faster way against the exact one, on one batch.

    Attributes:
        activations: relative change at the hook point, ||x - x_ref|| / ||x_ref|| over the batch, >= 0.
        embeddings: the same of the unit image embeddings.
        images_per_s: images per second of the faster way.
        reference_images_per_s: those of the exact one.
    """

    activations: float
    embeddings: float
    images_per_s: float
    reference_images_per_s: float

    def __str__(self) -> str:
        return (
            f"changes the activations by {self.activations:.2%} and the embeddings by {self.embeddings:.2%}; "
            f"{self.images_per_s:.0f} images/s against {self.reference_images_per_s:.0f}"
        )


def relative_change(x: Tensor, reference: Tensor) -> float:
    """Return ||x - reference|| / ||reference||, Frobenius norms, in float64.

    Example:
        >>> relative_change(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0]))
        0.08...
    """
    reference = reference.double()
    return float((x.double() - reference).norm() / reference.norm())


def compare_precision(
    clip: Clip, reference: Clip, hook_point: HookPoint, pixels: Tensor, repeats: int = 3
) -> Precision:
    """Run two models on the same images `[n, 3, H, W]`, in turn; speeds are medians over `repeats`."""
    models = (clip, reference)
    seen, seconds = _in_turn([partial(_seen, model, hook_point, pixels) for model in models], repeats)
    return Precision(*map(relative_change, *seen), *(len(pixels) / each for each in seconds))


def compare_decoding(
    clip: Clip,
    images: ImageSet,
    reference: ImageSet,
    hook_point: HookPoint,
    ids: Sequence[int],
    repeats: int = 3,
) -> Precision:
    """Decode the same images in two ways, in turn and on one core; bad ones are left out.

    Args:
        clip: what sees them.
        images: as they are decoded faster.
        reference: as they are decoded exactly.
        hook_point: where activations are compared.
        ids: of the images.
        repeats: speeds are medians over so many.
    """
    decoded, seconds = _in_turn([partial(_decode, way, clip, ids) for way in (images, reference)], repeats)
    good = [not any(faults) for faults in zip(*(each.faults for each in decoded), strict=True)]
    seen = [_seen(clip, hook_point, _inputs(clip, each.pixels[good])) for each in decoded]
    return Precision(*map(relative_change, *seen), *(len(ids) / each for each in seconds))


def _decode(images: ImageSet, clip: Clip, ids: Sequence[int]) -> Decoded:
    return next(load_pixels(images, clip, [ids], len(ids)))


def _inputs(clip: Clip, pixels: Tensor) -> Tensor:
    return clip.finish(pixels.to(clip.device))


@torch.inference_mode()
def _seen(clip: Clip, hook_point: HookPoint, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the activations and embeddings."""
    with capture(clip, [hook_point]) as activations:
        embeddings = clip.encode_image(pixels).cpu()
    return activations[hook_point].cpu(), embeddings


def _in_turn(ways: Sequence[Callable[[], R]], repeats: int) -> tuple[list[R], list[float]]:
    """Return what each way gives, and the median of its seconds after a first time."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + repeats):
        results = []
        for way, times in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            results.append(way())
            times.append(time.perf_counter() - start)
    return results, [statistics.median(times[1:]) for times in seconds]
