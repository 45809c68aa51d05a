"""Activations of the text tower: texts as examples, scored against images."""

from typing import Any

import torch
from torch import Tensor

from lightning_sae.clip import Clip, HookPoint, TextClip, TokenRule, Tokens
from lightning_sae.data.capture.capture import Capture
from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.images.image_set import ImageSource, Split
from lightning_sae.data.store.activations import ActivationStore
from lightning_sae.data.store.layout import data_identity
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.data.store.text_tokens import RealTokenStore, real_tokens


class TextDataModule(ActivationDataModule):
    """Activations of one hook point of the text tower on a set of texts.

    Everything is as for images with the two towers in each other's place. The score of a text is against the
    images of a class: `class_embeddings` are the means of the unit embeddings of its images in `val`, so that
    a text's cosine or logit with a class is the mean over these images.

    Args:
        texts: the data set.
        images: the images that the texts are scored against; they name the classes.
        clip: the audited CLIP.
        hook_point: path of a module of its text tower.
        tokens: which tokens of it: `eot`; `all`, of which those up to the pooled one are trained on, without
            padding; `pooled`.
        judge: the CLIP that names latents; `None` is the audited CLIP itself, with a warning.
        **activations: the other arguments of `ActivationDataModule`.

    Raises:
        ValueError: a hook point of the image tower; on `setup` a class without images.
    """

    def __init__(
        self,
        texts: ImageSource,
        images: ImageSource,
        clip: Clip,
        hook_point: str,
        tokens: Tokens | TokenRule = "eot",
        judge: Clip | None = None,
        **activations: Any,
    ) -> None:
        self._scored_against = images
        super().__init__(texts, TextClip(clip), hook_point, tokens, judge and TextClip(judge), **activations)
        self._image_clip = clip

    def captures(self) -> dict[str, Capture]:
        """Return what belongs into the store, and the embeddings of the images."""
        return super().captures() | {"images": self._capture_images()}

    def data_identity(self) -> dict[str, str]:
        """Return the identity of the texts, and of the images that they are scored against."""
        return super().data_identity() | data_identity({"images": self._scored_against.split("val")})

    def _open(self, split: Split, hook: HookPoint) -> ActivationStore:
        """Open the store of a split; with `tokens=all`, leave out the padding that it has as well."""
        whole = super()._open(split, hook)
        if whole.layout.tokens == 1:
            return whole
        texts = self.images(split)
        ids = self.clip.tokenizer([str(texts[i]) for i in range(len(texts))])
        return RealTokenStore(whole, real_tokens(self.clip, ids, whole.layout.tokens))

    def _capture_images(self) -> Capture:
        return Capture(
            self._scored_against.split("val"),
            self._image_clip.to(self._device),
            store_dir=self.store_dir,
            batch_size=self.capture_batch_size,
            shard_images=self.shard_images,
            num_workers=self.num_workers,
            processes=self._processes,
        )

    def _embed_classes(self) -> Tensor:
        images = self._scored_against.split("val")
        embeddings = read_tensor(self._capture_images().folder / "images", "embeddings")
        return class_means(embeddings, images.targets, images.class_names)


def class_means(embeddings: Tensor, targets: Tensor, class_names: list[str]) -> Tensor:
    """Return the mean unit embedding of each class's images, not brought to unit length.

    A text's cosine with it is the mean of its cosines with the images.

    Args:
        embeddings: `[n, d_embed]` unit.
        targets: `[n]` int64, -1 for none.
        class_names: of the `C` classes.

    Returns:
        `[C, d_embed]`.

    Raises:
        ValueError: a class has no images.

    Example:
        >>> class_means(torch.eye(2), torch.tensor([0, 0]), ["cat"])
        tensor([[0.5000, 0.5000]])
    """
    counts = torch.bincount(targets[targets >= 0], minlength=len(class_names))
    if empty := [name for name, count in zip(class_names, counts.tolist(), strict=True) if count == 0]:
        raise ValueError(
            f"{len(empty)} classes have no val images to score texts against: {', '.join(empty[:10])}; add "
            "images, or name only classes that have some"
        )
    sums = embeddings.new_zeros(len(class_names), embeddings.shape[1])
    sums.index_add_(0, targets[targets >= 0], embeddings[targets >= 0])
    return sums / counts[:, None]
