"""What bf16 weights change, and what they gain on this machine."""

import statistics
import time
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, capture


class Precision(NamedTuple):
    """A CLIP in low precision against the same in full precision, on one batch.

    Attributes:
        activations: relative change at the hook point, ||x - x_ref|| / ||x_ref|| over the batch, >= 0.
        embeddings: the same of the unit image embeddings.
        images_per_s: images per second of the forward.
        reference_images_per_s: those of the reference.
    """

    activations: float
    embeddings: float
    images_per_s: float
    reference_images_per_s: float

    def __str__(self) -> str:
        return (
            f"changes the activations by {self.activations:.2%} and the embeddings by {self.embeddings:.2%}; "
            f"{self.images_per_s:.0f} images/s against {self.reference_images_per_s:.0f} in fp32"
        )


def relative_change(x: Tensor, reference: Tensor) -> float:
    """||x - reference|| / ||reference||, Frobenius norms, in float64.

    Example:
        >>> relative_change(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0]))
        0.08...
    """
    reference = reference.double()
    return float((x.double() - reference).norm() / reference.norm())


@torch.inference_mode()
def compare_precision(
    clip: Clip, reference: Clip, hook_point: HookPoint, pixels: Tensor, repeats: int = 3
) -> Precision:
    """Runs both on the same images `[n, 3, H, W]`, in turn; speeds are medians over `repeats`."""
    seconds: dict[Clip, list[float]] = {clip: [], reference: []}
    seen: dict[Clip, tuple[Tensor, Tensor]] = {}
    for model in (clip, reference) * (1 + repeats):
        start = time.perf_counter()
        with capture(model, [hook_point]) as activations:
            seen[model] = model.encode_image(pixels).cpu(), activations[hook_point].cpu()
        seconds[model].append(time.perf_counter() - start)
    (embeddings, x), (embeddings_ref, x_ref) = seen[clip], seen[reference]
    speed = {model: len(pixels) / statistics.median(each[1:]) for model, each in seconds.items()}
    return Precision(
        relative_change(x, x_ref), relative_change(embeddings, embeddings_ref), speed[clip], speed[reference]
    )
