"""What counts as much: the scales that bring the numbers of images into [0, 1], from images of their own."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.monitoring.image_numbers import ImageNumbers

FIRES = 0.3
"""Part of a latent's largest activation from which on it counts as firing."""

LEAST_SHARE = 0.05
"""Share of the positive attribution that counts as a whole of a latent that hardly ever drives anything."""

USUAL = 0.75
"""Quantile of the error up to which it is usual."""


class Scales(NamedTuple):
    """Scales of the numbers. They come from images that nothing is tested with, so that the tests stay exact.

    Attributes:
        fires: `[d_sae]`, activation above which a latent fires; below it, many latents are active on images
            that they do not mean.
        share: `[d_sae]`, share of the positive attribution that counts as 1, the largest that was seen.
        usual: error up to which it counts as 0.
        much: error from which on it counts as 1, the largest that was seen.
    """

    fires: Tensor
    share: Tensor
    usual: float
    much: float

    @classmethod
    def of(cls, numbers: ImageNumbers) -> Self:
        """Return the scales of some images."""
        latents, shares = numbers.latents, numbers.shares
        largest = torch.zeros(latents.d_sae)
        strongest = largest.scatter_reduce(0, latents.indices, latents.values, "amax")
        share = largest.scatter_reduce(0, shares.indices, shares.values, "amax").clamp(min=LEAST_SHARE)
        usual, much = float(numbers.error.quantile(USUAL)), float(numbers.error.max())
        return cls(FIRES * strongest, share, usual, max(much, usual + 1e-6))

    @property
    def width(self) -> float:
        """The error between `usual` and `much`, which is brought to 1."""
        return self.much - self.usual
