"""A corrected classifier: class vectors for CLIP's embeddings, and latents that are held while it embeds."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.clip import Clip
from lightning_sae.correct.clamp import Held, holding
from lightning_sae.mappings import check_clip

Way = Literal["shift", "edit", "erase", "refit", "clamp", "ablate"]
WAYS: tuple[Way, ...] = get_args(Way)  # the simplest first
HELD_WAYS: tuple[Way, ...] = ("clamp", "ablate")  # that hold latents while CLIP embeds


@dataclass(frozen=True)
class CorrectedClassifier:
    """Class vectors for the embeddings of one CLIP: `logit_c = <weight_c, e> + bias_c`.

    Where a class vector was edited or shifted, `predict` takes the embeddings that `open_clip` gives, brought
    to unit length. Where latents are held, it takes those that the CLIP gives inside `wrap`.

    Attributes:
        class_names: `C` names.
        classes: weight `[C, d_embed]` and bias `[C]`; those of prompts have CLIP's logit scale in them.
        clip: identity of the CLIP (`Clip.identity`).
        held: latents; `None` where only class vectors changed.
    """

    class_names: Sequence[str]
    classes: LinearClassifier
    clip: Mapping[str, str]
    held: Held | None = None

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return `[n, d_embed]` unit -> `[n, C]`.

        Raises:
            ValueError: embeddings of another width.
        """
        width = self.classes.weight.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != width:
            raise ValueError(f"embeddings must be [n, {width}], got {list(embeddings.shape)}")
        return self.classes.to(embeddings).logits(embeddings)

    def predict(self, embeddings: Tensor) -> Tensor:
        """Return `[n, d_embed]` unit -> the class of each image, `[n]` int64, ties to the lower index.

        Example:
            >>> classes = LinearClassifier(torch.eye(2), torch.tensor([0.0, 0.5]))
            >>> CorrectedClassifier(["cat", "dog"], classes, {}).predict(torch.tensor([[0.8, 0.6]]))
            tensor([1])
        """
        return self.logits(embeddings).argmax(1)

    @contextmanager
    def wrap(self, clip: Clip, strict: bool = True) -> Iterator[Clip]:
        """Hold the latents in every forward of a CLIP inside the `with`; nothing is left behind.

        Args:
            clip: the model that the classifier was made for.
            strict: `False` accepts another CLIP.

        Yields:
            The same CLIP.

        Raises:
            ValueError: another CLIP; names what differs.
        """
        if strict:
            check_clip("the corrected classifier", self.clip, clip.identity())
        if self.held is None:
            yield clip
            return
        with holding(clip, self.held._replace(sae=self.held.sae.to(clip.device))):
            yield clip

    @torch.no_grad()
    def classify(self, clip: Clip, images: Sequence[Image.Image], batch_size: int = 256) -> Tensor:
        """Return the logits `[n, C]` of images in RGB, with the latents held.

        Raises:
            ValueError: another CLIP than the one it was made for.
        """
        with self.wrap(clip):
            parts = []
            for start in range(0, len(images), batch_size):
                pixels = [clip.preprocess(image) for image in images[start : start + batch_size]]
                parts.append(self.logits(clip.encode_image(torch.stack(pixels))))
        return torch.cat(parts) if parts else self.classes.weight.new_zeros(0, len(self.class_names))
