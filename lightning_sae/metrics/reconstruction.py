"""How well activations are reconstructed: the fraction of variance unexplained, and cosine similarity."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics import Metric

from lightning_sae.metrics.moments import centred_moments, merge_moments


def fvu(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return the fraction of variance unexplained.

    It is `sum ||x - x_hat||^2 / sum ||x - mean(x)||^2`, with the mean per dimension: 0 for a perfect
    reconstruction, 1 for the mean of the data, without upper bound. Computed in float64.

    Args:
        x: `[n, d_in]` activations, not normalised.
        x_hat: `[n, d_in]` reconstructions.

    Returns:
        Scalar >= 0, float64.

    Raises:
        ValueError: the activations are constant or hold NaN.

    Example:
        >>> x = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> fvu(x, x + 0.5).item()
        0.25
    """
    moments = centred_moments(x)
    return _ratio((x.double() - x_hat.double()).square().sum(), moments)


class FVU(Metric):
    """`fvu` over all batches and ranks, whatever their sizes.

    Args:
        d_in: width of the activations.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    moments: Tensor
    error: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__()
        self.add_state("moments", torch.zeros(2 + d_in, dtype=torch.float64), dist_reduce_fx=merge_moments)
        self.add_state("error", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        """Add activations and reconstructions `[n, d_in]`."""
        self.moments = merge_moments(torch.stack([self.moments, centred_moments(x)]))
        self.error = self.error + (x.double() - x_hat.double()).square().sum()

    def compute(self) -> Tensor:
        """Return the scalar >= 0."""
        return _ratio(self.error, self.moments)


def _ratio(error: Tensor, moments: Tensor) -> Tensor:
    if not moments[1] > 0:
        raise ValueError(
            f"FVU is undefined: the variance of {int(moments[0])} activations is {float(moments[1])}; they "
            "are constant or hold NaN, check the hook point and the images"
        )
    return error / moments[1]


def cosine(x: Tensor, x_hat: Tensor) -> Tensor:
    """Return the mean cosine of each activation and its reconstruction, about zero.

    Args:
        x: `[n, d_in]` activations.
        x_hat: `[n, d_in]` reconstructions.

    Returns:
        Scalar in -1..1, float64.

    Example:
        >>> cosine(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])).item()
        0.5
    """
    return cosine_similarity(x.double(), x_hat.double(), dim=1).mean()


class Cosine(Metric):
    """`cosine` over all batches and ranks."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        """Add activations and reconstructions `[n, d_in]`."""
        if len(x):
            self.total = self.total + cosine(x, x_hat) * len(x)
            self.tokens = self.tokens + len(x)

    def compute(self) -> Tensor:
        """Return the scalar in -1..1."""
        return self.total / self.tokens
