"""Activations brought to a common scale, and latents back to raw units."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_sae.types import SparseLatents

Normalisation = Literal["standard", "none", "layer_norm"]

EPS = 1e-5  # added to the spread of a token in a layer norm


class Normalised(nn.Module):
    """A module that takes raw activations `x` and works on `x_n = (x - shift) * scale`.

    `standard` and `none` have one shift and one scale, `layer_norm` those of each token, `mean(x)` and
    `1 / (std(x) + 1e-5)`.

    Attributes:
        mean: `[d_in]` buffer, the shift; 0 in a layer norm.
        scale: scalar buffer > 0; 1 in a layer norm.

    Args:
        d_in: width of the activations.
        normalisation: which one.

    Raises:
        ValueError: another normalisation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, d_in: int, normalisation: Normalisation) -> None:
        super().__init__()
        if normalisation not in get_args(Normalisation):
            raise ValueError(
                f"normalisation must be one of {', '.join(get_args(Normalisation))}, got {normalisation}"
            )
        self.d_in, self.normalisation = d_in, normalisation
        self.register_buffer("mean", torch.zeros(d_in))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def set_normalisation(self, mean: Tensor, scale: Tensor | float) -> None:
        """Set the mean and the scale of the activations, before training; only `standard` takes them over.

        Args:
            mean: `[d_in]`.
            scale: > 0.

        Raises:
            ValueError: wrong width, values that aren't finite, or a scale that isn't positive, as constant
                activations give.
        """
        scale = torch.as_tensor(scale, dtype=self.scale.dtype)
        if mean.shape != (self.d_in,):
            raise ValueError(f"mean must have shape [{self.d_in}], got {list(mean.shape)}")
        if not (mean.isfinite().all() and scale.isfinite() and scale > 0):
            raise ValueError(
                f"cannot normalise activations with a mean of norm {float(mean.norm()):.3g} and scale "
                f"{float(scale):.3g}: they are constant or hold NaN; check the hook point and the images"
            )
        if self.normalisation == "standard":
            self.mean.copy_(mean)
            self.scale.copy_(scale)

    def normalise(self, x: Tensor) -> Tensor:
        """Return raw activations `[n, d_in]` normalised, in the precision of the parameters."""
        x = x.to(self.mean.dtype)
        shift, scale = self.shift_and_scale(x)
        return (x - shift) * scale

    def shift_and_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift and the scale of raw activations `[n, d_in]`.

        They are `[d_in]` and a scalar; after a layer norm both are `[n, 1]`.
        """
        if self.normalisation != "layer_norm":
            return self.mean, self.scale
        return x.mean(-1, keepdim=True), (x.std(-1, keepdim=True) + EPS).reciprocal()

    def in_raw_units(self, latents: SparseLatents, x: Tensor) -> SparseLatents:
        """Return the latents of the normalised activations of `x [n, d_in]`, divided by the scale."""
        _, scale = self.shift_and_scale(x.to(self.mean.dtype))
        return latents.with_values(latents.values / (scale[latents.rows(), 0] if scale.ndim else scale))
