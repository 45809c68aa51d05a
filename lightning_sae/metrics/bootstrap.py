"""How sure a mean over images is: bootstrap intervals."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import bootstrap, norm
from torch import Tensor


def mean_in_units(samples: Tensor, unit: Tensor) -> Tensor:
    """Return the mean over images as a multiple of the mean unit: `sum_i samples_i / sum_i unit_i`.

    All images share one unit, so that an image with a small unit of its own cannot blow up.

    Args:
        samples: `[n, ...]`.
        unit: `[n]`.

    Returns:
        `[...]`, NaN unless the mean unit is positive.

    Example:
        >>> mean_in_units(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 2.0]))
        tensor(0.5000)
    """
    mean = unit.mean()
    return samples.mean(0) / mean.where(mean > 0, torch.nan)


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Attributes:
        mean: `[...]`.
        low: `[...]`, NaN from fewer than two images.
        high: `[...]`, NaN from fewer than two images.
    """

    mean: Tensor
    low: Tensor
    high: Tensor


def interval(
    samples: Tensor,
    unit: Tensor | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the mean over images with its bootstrap percentile interval (`scipy.stats.bootstrap`).

    Args:
        samples: `[n, ...]`, one row an image; images with an undefined value are left out.
        unit: `[n]`, to give `mean_in_units`; each bootstrap sample of images has its own mean unit. A ratio
            has no bounds where its unit may be 0 (Fieller 1954): the interval is NaN then.
        confidence: coverage, in (0, 1).
        resamples: bootstrap samples of the images.
        seed: of the resampling.

    Example:
        >>> mean, low, high = interval(torch.arange(100.0))
        >>> float(mean), 40 < float(low) < 46, 54 < float(high) < 60
        (49.5, True, True)
    """
    unit = samples.new_ones(len(samples)) if unit is None else unit
    known = samples.unsqueeze(-1).flatten(1).isfinite().all(1)
    samples, unit = samples[known].double(), unit[known].double()
    mean = mean_in_units(samples, unit)
    if len(samples) < 2 or not mean.isfinite().all() or not _positive(unit, confidence):
        return Interval(mean, *[torch.full_like(mean, torch.nan)] * 2)
    shape = len(unit), *[1] * (samples.ndim - 1)
    found = bootstrap(
        (samples.numpy(), unit.view(shape).numpy()),
        lambda samples, unit, axis: samples.mean(axis) / unit.mean(axis),
        paired=True,
        n_resamples=resamples,
        batch=100,
        vectorized=True,
        axis=0,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, torch.as_tensor(found.low), torch.as_tensor(found.high))


def _positive(unit: Tensor, confidence: float) -> bool:
    """Return whether the mean unit lies above 0 by more than its normal interval."""
    error = unit.std() / len(unit) ** 0.5
    return bool(unit.mean() > norm.ppf((1 + confidence) / 2) * error)
