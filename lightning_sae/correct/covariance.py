"""The covariance of embeddings that a change of a class's vector is measured by."""

import torch
from torch import Tensor

RIDGE = 0.01


def covariance_within(others: Tensor, own: Tensor, ridge: float = RIDGE) -> Tensor:
    """Return the covariance of embeddings about the mean of their kind, `[d_embed, d_embed]`.

    Args:
        others: `[n, d_embed]`, images of other classes.
        own: `[k, d_embed]`, images of the class.
        ridge: >= 0, times the mean variance, is added on the diagonal.

    Example:
        >>> others, own = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [7.0]])
        >>> covariance_within(others, own, ridge=0.5)
        tensor([[1.5000]])
    """
    centred = torch.cat([part - part.mean(0) for part in (others, own) if len(part)])
    C = centred.T @ centred / len(centred)
    C.diagonal().add_(ridge * C.diagonal().mean())
    return C
