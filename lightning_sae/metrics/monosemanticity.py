"""MonoSemanticity score: how alike the images are on which a latent fires, weighted by how much it fires."""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from lightning_sae.metrics.image_latents import max_over_tokens
from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents


def monosemanticity(latents: SparseLatents, embeddings: Tensor) -> Tensor:
    """Return the mean cosine between two different images, weighted by the product of their activations.

    `sum_{i != j} a_i a_j <e_i, e_j> / sum_{i != j} a_i a_j`, as
    `(||sum_i a_i e_i||^2 - sum_i a_i^2) / ((sum_i a_i)^2 - sum_i a_i^2)`, in float64. Unlike clarity it
    counts every image on which the latent fires. MonoSemanticity score of Pach et al. 2025, arXiv 2504.02821,
    who scale activations to [0, 1] first: the score does not depend on the scale.

    Args:
        latents: of `n` images, a row each.
        embeddings: `[n, d]`, of any length above 0.

    Returns:
        `[d_sae]` in [-1, 1], float64; NaN for a latent that fires on fewer than two images.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0, 2.0], [1.0, 0.0], [2.0, 0.0]]))
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> monosemanticity(latents, embeddings)
        tensor([0.5600,    nan], dtype=torch.float64)
    """
    metric = MonoSemanticity(latents.d_sae, embeddings.shape[1]).to(embeddings.device)
    metric.update(latents, torch.arange(len(latents), device=embeddings.device), embeddings)
    score: Tensor = metric.compute()
    return score


class MonoSemanticity(ShapedMetric):
    """`monosemanticity` over all batches and ranks, each of which has whole images.

    Cost grows with the number of active latents, memory with `d_sae * d`.

    Args:
        d_sae: number of latents.
        d: width of the image embeddings.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    weighted: Tensor
    total: Tensor
    squares: Tensor
    fired: Tensor

    def __init__(self, d_sae: int, d: int) -> None:
        super().__init__()
        zeros = torch.zeros(d_sae, dtype=torch.float64)
        self.add_state("weighted", torch.zeros(d_sae, d, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("squares", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("fired", zeros.long(), dist_reduce_fx="sum")

    def update(self, latents: SparseLatents, image_ids: Tensor, embeddings: Tensor) -> None:
        """Add tokens, the image `[t]` that each comes from, and `[n_images, d]`, a row per image id."""
        latents, image_ids = max_over_tokens(latents, image_ids)
        order = latents.indices.argsort(stable=True)
        order = order[latents.values[order] > 0]
        touched, counts = torch.unique_consecutive(latents.indices[order], return_counts=True)
        value, image = latents.values[order].double(), latents.rows()[order]
        rows = normalize(embeddings[image_ids].double(), dim=-1)
        starts = counts.cumsum(0) - counts
        sums = embedding_bag(image, rows, starts, mode="sum", per_sample_weights=value)
        self.weighted.index_add_(0, touched, sums)
        self.total.index_add_(0, latents.indices[order], value)
        self.squares.index_add_(0, latents.indices[order], value.square())
        self.fired.index_add_(0, touched, counts)

    def compute(self) -> Tensor:
        """Return `[d_sae]` in [-1, 1]; NaN below two images."""
        score = (self.weighted.square().sum(1) - self.squares) / (self.total.square() - self.squares)
        return score.where(self.fired > 1, torch.nan)
