"""The latents of images: the largest activation over an image's tokens, for one batch or a whole pass."""

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents


def max_over_tokens(latents: SparseLatents, image_ids: Tensor) -> tuple[SparseLatents, Tensor]:
    """Return the largest activation of each latent over the tokens of an image.

    The cost grows with the active latents.

    Args:
        latents: of `t` tokens.
        image_ids: `[t]` int64 >= 0, in any order.

    Returns:
        Latents of the `n` images that there are, a row each, and their ids `[n]`, ascending. If every image
        has one token and the ids ascend, these are the given latents.

    Example:
        >>> tokens = SparseLatents.from_dense(torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 5.0]]))
        >>> latents, ids = max_over_tokens(tokens, torch.tensor([8, 7, 8]))
        >>> ids.tolist(), latents.to_dense().tolist()
        ([7, 8], [[3.0, 2.0], [1.0, 5.0]])
    """
    if bool((image_ids.diff() > 0).all()):
        return latents, image_ids
    ids, image = torch.unique(image_ids, return_inverse=True)
    active = latents.values > 0
    entries = image[latents.rows()[active]] * latents.d_sae + latents.indices[active]
    keys, group = torch.unique(entries, return_inverse=True)  # ascending by image, then latent
    values = latents.values.new_zeros(len(keys)).scatter_reduce(0, group, latents.values[active], "amax")
    counts = torch.bincount(torch.div(keys, latents.d_sae, rounding_mode="floor"), minlength=len(ids))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseLatents(values, keys % latents.d_sae, offsets, latents.d_sae), ids


class ImageLatents(ShapedMetric):
    """`max_over_tokens` over all batches and ranks: the sparse latents of every image of a pass.

    It keeps the active latents of each batch, after the maximum over tokens: for one token per image `k`
    values and indices an image, 0.6 kB at k = 64.

    Args:
        d_sae: number of latents.
    """

    is_differentiable = False
    full_state_update = False
    values: list[Tensor]
    indices: list[Tensor]
    counts: list[Tensor]
    image_ids: list[Tensor]

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.d_sae = d_sae
        for name in ("values", "indices", "counts", "image_ids"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, latents: SparseLatents, image_ids: Tensor) -> None:
        """Add tokens with the images `[t]` that they come from."""
        latents, image_ids = max_over_tokens(latents, image_ids)
        self.values.append(latents.values.float())
        self.indices.append(latents.indices.int())
        self.counts.append(latents.offsets.diff())
        self.image_ids.append(image_ids)

    def compute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the values, indices and offsets of the images' latents, and the ids of the images.

        The method `latents` puts values, indices and offsets together.
        """
        counts = dim_zero_cat(self.counts)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        tokens = SparseLatents(
            dim_zero_cat(self.values), dim_zero_cat(self.indices).long(), offsets, self.d_sae
        )
        images, ids = max_over_tokens(tokens, dim_zero_cat(self.image_ids))
        return images.values, images.indices, images.offsets, ids

    def latents(self) -> tuple[SparseLatents, Tensor]:
        """Return the latents of `n` images, a row each, and the images' ids `[n]`, ascending.

        It must be called on all ranks or on none.
        """
        values, indices, offsets, ids = self.compute()
        return SparseLatents(values, indices, offsets, self.d_sae), ids
