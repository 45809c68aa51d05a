"""Whether two latents are made by the same sources, against what random latents share."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.concepts.significance import p_values, random_image_sets

POOL = 64  # random latents
DRAWS = 1000  # random sets of them


class Overlap(NamedTuple):
    """The share of sources in common, beside that with random latents.

    Attributes:
        value: mean overlap.
        random: mean over the random sets.
        high: what one random set in twenty exceeds.
        p_value: chance of an overlap at least as large, in (0, 1].
    """

    value: float
    random: float
    high: float
    p_value: float


def overlaps(profile: Tensor, others: Tensor) -> Tensor:
    """Return `sum_i min(p_i, q_i)` of a profile with each of some others, `[m]` in 0..1.

    It is one less the total variation distance: 1 where all influence comes from the same sources in the same
    shares, 0 where no source is shared.

    Args:
        profile: `[d_sae]` shares that sum to 1.
        others: `[m, d_sae]`, the same.

    Example:
        >>> overlaps(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]))
        tensor([0.5000, 0.0000])
    """
    return torch.minimum(profile, others).sum(1)


def compare(profile: Tensor, own: Tensor, random: Tensor, seed: int = 0) -> Overlap:
    """Return the mean overlap of a profile with some others, against as many random ones at a time.

    Args:
        profile: `[d_sae]`, of a culprit.
        own: `[m, d_sae]`, of the latents that it is held against.
        random: `[r, d_sae]`, of random latents, `r >= m`.
        seed: of the random sets.
    """
    value = overlaps(profile, own).mean()
    null = overlaps(profile, random)[random_image_sets(len(random), len(own), DRAWS, seed)].mean(1)
    p = float(p_values(value[None], null)[0])
    return Overlap(float(value), float(null.mean()), float(null.quantile(0.95)), p)
