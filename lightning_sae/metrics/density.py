"""How many latents a token has (L0), and on how many tokens a latent fires (density)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents


def l0(latents: SparseLatents) -> Tensor:
    """Return the mean number of non-zero latents per token.

    Returns:
        Scalar in 0..d_sae, float64.

    Example:
        >>> l0(SparseLatents.from_dense(torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]))).item()
        1.5
    """
    return (latents.values > 0).sum().double() / len(latents)


def firings(latents: SparseLatents) -> Tensor:
    """Return the number of tokens on which each latent fires, `[d_sae]` int64.

    Example:
        >>> firings(SparseLatents.from_dense(torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]))).tolist()
        [1, 2, 0]
    """
    return torch.bincount(latents.indices[latents.values > 0], minlength=latents.d_sae)


def density(latents: SparseLatents) -> Tensor:
    """Return the share of the tokens on which each latent fires.

    Returns:
        `[d_sae]` in 0..1, float64.

    Example:
        >>> density(SparseLatents.from_dense(torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]))).tolist()
        [0.5, 1.0, 0.0]
    """
    return firings(latents).double() / len(latents)


def density_quantiles(density: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Return the quantiles of the density over the latents that fire at all.

    Args:
        density: `[d_sae]` in 0..1.
        quantiles: each in 0..1.

    Returns:
        `[len(quantiles)]` float64; zeros where no latent fires.

    Example:
        >>> density_quantiles(torch.tensor([0.0, 0.1, 0.2, 0.3]), [0.5]).tolist()
        [0.2...]
    """
    alive = density[density > 0].double()
    wanted = torch.tensor(quantiles, dtype=torch.float64, device=density.device)
    return alive.quantile(wanted) if len(alive) else torch.zeros_like(wanted)


class L0(Metric):
    """`l0` over all batches and ranks."""

    is_differentiable = False
    full_state_update = False
    active: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("active", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, latents: SparseLatents) -> None:
        """Add tokens."""
        self.active = self.active + (latents.values > 0).sum()
        self.tokens = self.tokens + len(latents)

    def compute(self) -> Tensor:
        """Return the scalar in 0..d_sae."""
        return self.active.double() / self.tokens


class Density(ShapedMetric):
    """`density` over all batches and ranks.

    Args:
        d_sae: number of latents.
    """

    is_differentiable = False
    full_state_update = False
    firings: Tensor
    tokens: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__()
        self.add_state("firings", torch.zeros(d_sae, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, latents: SparseLatents) -> None:
        """Add tokens."""
        self.firings = self.firings + firings(latents)
        self.tokens = self.tokens + len(latents)

    def compute(self) -> Tensor:
        """Return `[d_sae]` in 0..1."""
        return self.firings.double() / self.tokens
