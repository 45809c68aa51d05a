"""Where training starts: the decoder bias, and the rows of decoder and encoder."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag

BiasStart = Literal["mean", "geometric_median", "zero"]
RowStart = Literal["random", "data"]
GAIN_SAMPLE = 2048


def start_bias(sae: SparseAutoencoder, start: BiasStart, mean: Tensor, sample: Tensor | None) -> Tensor:
    """Return where the decoder bias starts, `[d_in]`, on normalised activations.

    Args:
        sae: its normalisation is set.
        start: `mean`, `geometric_median` or `zero`, the origin of the raw activations.
        mean: `[d_in]`, of all raw activations.
        sample: `[n, d_in]` raw activations; the geometric median needs them, and the mean after a layer norm.
    """
    if sample is not None and start == "geometric_median":
        return geometric_median(sae.normalise(sample))
    if sample is not None and start == "mean" and sae.normalisation == "layer_norm":
        return sae.normalise(sample).mean(0)
    return sae.normalise((torch.zeros_like(mean) if start == "zero" else mean)[None])[0]


def geometric_median(x: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """Return the point with the smallest sum of distances to all rows; single outliers hardly move it.

    Weiszfeld's algorithm, `y <- sum x_i / ||x_i - y|| / sum 1 / ||x_i - y||`, from the mean, in float64
    (Weiszfeld 1937, *Tohoku Mathematical Journal* 43).

    Args:
        x: `[n, d]`, n >= 1.
        steps: largest number of steps.
        tolerance: a step smaller than this share of the mean distance is the last one.

    Returns:
        `[d]` in the type of `x`.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [2.0], [3.0], [900.0]])).round(decimals=2)
        tensor([2.])
    """
    points = x.double()
    median = points.mean(0)
    for _ in range(steps):
        distances = (points - median).norm(dim=1)
        weights = distances.clamp_min(tolerance * distances.mean() + torch.finfo(torch.float64).tiny)
        weights = weights.reciprocal() / weights.reciprocal().sum()
        before, median = median, weights @ points
        if (median - before).norm() <= tolerance * distances.mean():
            break
    return median.to(x.dtype)


@torch.no_grad()
def initialise(sae: SparseAutoencoder, bias: Tensor, sample: Tensor | None, tied: bool) -> None:
    """Set decoder bias and rows before training; the normalisation is set.

    Args:
        sae: fresh, its decoder rows random.
        bias: `[d_in]`, of the decoder, on normalised activations.
        sample: `[n, d_in]` raw activations; the directions from the bias to the first `d_sae` of them become
            the decoder rows; with fewer, the other rows stay random. `None` leaves all random. Activations
            are alike, so that the latents of one add up to a multiple of it: the encoder becomes shorter by
            the factor that reconstructs the sample best.
        tied: whether the encoder rows start in the directions of the decoder rows; else in other random ones.
    """
    sae.b_dec.copy_(bias)
    if sample is not None:
        directions = sae.normalise(sample[: sae.d_sae]) - sae.b_dec
        known = directions.norm(dim=1) > 0
        sae.W_dec[: len(directions)][known] = normalize(directions[known], dim=1)
    rows = sae.W_dec if tied else normalize(torch.randn_like(sae.W_dec), dim=1)
    sae.encoder.copy_(rows)
    if sample is not None:
        sae.encoder.mul_(_best_gain(sae, sae.normalise(sample[:GAIN_SAMPLE])))


def _best_gain(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Return the factor of all latents with the smallest squared error, at most 1; `x` normalised."""
    latents = sae.encode_normalised(x)
    pattern = Pattern.of(latents, sae.kernels)
    rebuilt = bag(latents.values, sae.W_dec, pattern)
    least_squares = ((x - sae.b_dec) * rebuilt).sum() / rebuilt.square().sum()
    return torch.where(least_squares > 0, least_squares, 1.0).clamp(max=1)
