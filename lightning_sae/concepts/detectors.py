"""Where the data know the truth: which latent detects a factor's value, and how purely."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.metrics import ActiveRanks


class Detectors(NamedTuple):
    """The latent that detects each value best.

    Attributes:
        latent: `[n_values]` int64, the first of equals; -1 where undefined.
        auroc: `[n_values]` in 0..1, float64; NaN for a value that no image has, or all.
    """

    latent: Tensor
    auroc: Tensor


def best_detectors(ranks: ActiveRanks, labels: Tensor, n_values: int, chunk_size: int = 64) -> Detectors:
    """Return the latent with the largest AUROC for each value against all other images.

    It is the best of `d_sae` on the same images: chance alone gives more than 0.5, the more so the fewer
    images have the value. The sorting is shared; the rest costs `n_values * d_sae` and the active latents.

    Args:
        ranks: of the latents of `n` images.
        labels: `[n]` int64 value of each image, -1 for none.
        n_values: number of values.
        chunk_size: values at a time; memory grows with `chunk_size * d_sae`.

    Example:
        >>> from lightning_sae.types import SparseLatents
        >>> latents = SparseLatents.from_dense(torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.5]]))
        >>> best_detectors(ActiveRanks.of(latents), torch.tensor([-1, 0, 0]), n_values=1)
        Detectors(latent=tensor([0]), auroc=tensor([1.], dtype=torch.float64))
    """
    found = []
    for start in range(0, n_values, chunk_size):
        size = min(chunk_size, n_values - start)
        inside = (labels >= start) & (labels < start + size)
        # a value outside of this chunk is just not the one asked for
        found.append(ranks.aurocs(torch.where(inside, labels - start, -1), size).max(1))
    auroc, latent = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Detectors(latent.masked_fill(auroc.isnan(), -1), auroc)


def purity(image_ids: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """Return the share of a latent's top images that have a value.

    Args:
        image_ids: `[m, n]` int64, top images of `m` latents; -1 where there are fewer.
        labels: `[n_images]` int64, value of each image, -1 for none.
        values: `[m]` int64 >= 0, the value asked for.

    Returns:
        `[m]` in 0..1; NaN for a latent without images.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> purity(torch.tensor([[0, 1, 2], [1, 2, -1]]), labels, torch.tensor([0, 1]))
        tensor([0.3333, 1.0000])
    """
    present = image_ids >= 0
    right = present & (labels[image_ids.clamp(min=0)] == values[:, None])
    return right.sum(1) / present.sum(1)
