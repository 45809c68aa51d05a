"""Cosine similarity of activations and reconstructions."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics import Metric


def cosine(x: Tensor, x_hat: Tensor) -> Tensor:
    """Mean cosine of each activation and its reconstruction, about zero.

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
        """Adds activations and reconstructions `[n, d_in]`."""
        if len(x):
            self.total = self.total + cosine(x, x_hat) * len(x)
            self.tokens = self.tokens + len(x)

    def compute(self) -> Tensor:
        """Scalar in -1..1."""
        return self.total / self.tokens
