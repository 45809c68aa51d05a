"""Moments about the mean, of parts that are merged."""

import torch
from torch import Tensor


def centred_moments(x: Tensor) -> Tensor:
    """Number of rows, sum of squares about the mean, and the mean, packed as `[2 + d_in]` float64.

    Example:
        >>> centred_moments(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist()
        [2.0, 2.0, 2.0, 0.0]
    """
    x = x.double()
    mean = x.mean(0) if len(x) else x.sum(0)
    count = torch.tensor([len(x)], dtype=x.dtype, device=x.device)
    return torch.cat([count, (x - mean).square().sum()[None], mean])


def merge_moments(moments: Tensor) -> Tensor:
    """Merge the centred moments of parts, `[parts, 2 + d_in]` -> `[2 + d_in]`, without cancellation.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances".

    Example:
        >>> parts = [centred_moments(torch.tensor([[value]])) for value in (1.0, 3.0)]
        >>> merge_moments(torch.stack(parts)).tolist()
        [2.0, 2.0, 2.0]
    """
    counts, squares, means = moments[:, :1], moments[:, 1], moments[:, 2:]
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total.clamp_min(1)
    squares = squares.sum() + (counts * (means - mean).square()).sum()
    return torch.cat([total, squares[None], mean])
