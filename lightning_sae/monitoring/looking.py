"""How a monitor looks at images: CLIP up to the hook point, the autoencoder, the classifier's score."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.clip import Clip, HookPoint, Tail, capture_context, make_tail
from lightning_sae.monitoring.image_numbers import ImageNumbers, image_numbers
from lightning_sae.runs.folder import RunFolder
from lightning_sae.sae import SparseAutoencoder

OUTPUT = "margin"
CHEAP, COSTLY = 1, 20
"""One in so many images is attributed: every one behind the last layer, one in twenty elsewhere, where it
takes a backward pass through the later blocks."""


class Looking(NamedTuple):
    """Everything that images are looked at with.

    Attributes:
        clip: the model.
        hook_point: where.
        tail: of the hook point.
        sae: the autoencoder at the hook point.
        scores: of the classifier.
        culprits: class -> latents.
        every: one in so many images is attributed.
    """

    clip: Clip
    hook_point: HookPoint
    tail: Tail
    sae: SparseAutoencoder
    scores: ClassScores
    culprits: Mapping[int, Sequence[int]]
    every: int

    @classmethod
    def of(
        cls,
        run: RunFolder,
        classifier: LinearClassifier,
        culprits: Mapping[int, Sequence[int]],
        every: int | None = None,
    ) -> Self:
        """Return what a run and a classifier look at images with; choose `every` where it is `None`."""
        clip, hook = run.data.clip, run.data.hook
        tail = make_tail(clip, hook)
        chosen = every or (CHEAP if tail.needs == "nothing" else COSTLY)
        scores = ClassScores(classifier.to(torch.empty(0, device=clip.device)), OUTPUT)
        return cls(clip, hook, tail, run.sae, scores, culprits, chosen)

    def at_pixels(self, pixels: Tensor, seen: int) -> ImageNumbers:
        """Return the numbers of preprocessed images `[n, 3, H, W]`, the first of them after `seen` others."""
        x, context = capture_context(self.clip, self.hook_point, self.tail, pixels.to(self.clip.device))
        return self._at(x, context, seen)

    def at_activations(self, x: Tensor, seen: int) -> ImageNumbers:
        """Return the numbers of activations at the hook point, `[n, d_in]` or `[n, t, d_in]`.

        Raises:
            ValueError: another shape, or a hook point behind which the activations are not enough.
        """
        if self.tail.needs != "nothing":
            raise ValueError(
                f"behind {self.hook_point} the later blocks need the image's {self.tail.needs}, not the "
                "activations alone: give images, or preprocessed pixels"
            )
        x = x[:, None] if x.ndim == 2 else x
        if x.shape[1:] != (1, self.sae.d_in):
            raise ValueError(
                f"activations at {self.hook_point} are [n, {self.sae.d_in}], got {list(x.shape)}; pixels are "
                "[n, 3, H, W]"
            )
        return self._at(x.to(self.clip.device).float(), None, seen)

    def _at(self, x: Tensor, context: Tensor | None, seen: int) -> ImageNumbers:
        if not bool(x.isfinite().all()):
            raise ValueError("some activations are no finite numbers: check the images and the precision")
        explained = Explained.of(self.tail, self.sae, x.float(), context)
        attributed = torch.arange(seen, seen + len(x)) % self.every == 0
        return image_numbers(explained, self.sae, self.scores, self.culprits, attributed)
