"""On which modality a latent of a joint embedding fires: on images, on texts, or on both."""

import torch
from torch import Tensor

from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents

IMAGES, TEXTS, BOTH, NONE = "images", "texts", "both", ""


def modality_score(image_mean: Tensor, text_mean: Tensor) -> Tensor:
    """Return the share of a latent's activation that images have.

    The share is `m_j = E_image[a_j] / (E_image[a_j] + E_text[a_j])`. After Papadimitriou et al. 2025, arXiv
    2504.11695. Each modality counts by its mean, however many images and texts there are.

    Args:
        image_mean: `[d_sae]` >= 0, mean activation over images.
        text_mean: `[d_sae]` >= 0, over texts.

    Returns:
        `[d_sae]` in [0, 1]: 1 for a latent that fires on images alone, 0 on texts alone; NaN where it never
        fires.

    Example:
        >>> modality_score(torch.tensor([2.0, 0.0, 3.0]), torch.tensor([0.0, 1.0, 1.0]))
        tensor([1.0000, 0.0000, 0.7500])
    """
    return image_mean / (image_mean + text_mean)


def fires_on(score: Tensor, margin: float = 0.1) -> list[str]:
    """Return `images` from a score of `1 - margin`, `texts` up to `margin`, else `both`; "" without a score.

    Example:
        >>> fires_on(torch.tensor([1.0, 0.05, 0.5, torch.nan]))
        ['images', 'texts', 'both', '']
    """
    return [_name(value, margin) for value in score.tolist()]


def _name(score: float, margin: float) -> str:
    if score != score:
        return NONE
    return IMAGES if score >= 1 - margin else TEXTS if score <= margin else BOTH


class Modality(ShapedMetric):
    """Mean activation of every latent over images and over texts, streaming.

    Args:
        d_sae: number of latents.

    Example:
        >>> metric = Modality(d_sae=2)
        >>> latents = SparseLatents.from_dense(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
        >>> metric.update(latents, is_text=torch.tensor([False, True, True]))
        >>> metric.compute().tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, d_sae, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, latents: SparseLatents, is_text: Tensor) -> None:
        """Add examples, `is_text [n]` bool."""
        row = is_text.long()
        place = row[latents.rows()] * latents.d_sae + latents.indices
        self.sums.view(-1).index_add_(0, place, latents.values.double())
        self.counts += torch.bincount(row, minlength=2)

    def compute(self) -> Tensor:
        """Return `[2, d_sae]`: of images, of texts; NaN for a modality without examples."""
        return self.sums / self.counts[:, None]
