"""How sure a difference of two means is, in closed form."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import t
from torch import Tensor


class Difference(NamedTuple):
    """A difference of means with its confidence interval.

    Attributes:
        mean: the difference.
        low: NaN where it cannot be told.
        high: NaN where it cannot be told.
    """

    mean: float
    low: float
    high: float


def mean_difference(one: Tensor, other: Tensor, paired: bool = False, confidence: float = 0.95) -> Difference:
    """Return the mean of one sample minus that of another, with Student's or Welch's t-interval.

    `d +- t sqrt(v_1 / n_1 + v_2 / n_2)`, `v` the variances, `t` of the degrees of freedom of Welch and
    Satterthwaite (Welch 1947, Biometrika 34); paired samples have the one variance of their differences.

    Args:
        one: `[n_1]`; what is not finite is left out.
        other: `[n_2]`; if paired, `[n_1]`, and a pair is left out where either value is not finite.
        paired: whether values at one place belong together, as of one image.
        confidence: coverage, in (0, 1).

    Returns:
        The interval is NaN for fewer than two values in a sample, and has no width where all are equal.

    Raises:
        ValueError: paired samples of unequal size.

    Example:
        >>> one, other = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 2.0])
        >>> [round(value, 2) for value in mean_difference(one, other)]
        [1.33, -0.72, 3.38]
        >>> [round(value, 2) for value in mean_difference(one, other, paired=True)]
        [1.33, -0.1, 2.77]
    """
    if paired and len(one) != len(other):
        raise ValueError(f"paired samples are equally long, got {len(one)} and {len(other)} values")
    samples = [one.double() - other.double()] if paired else [one.double(), other.double()]
    samples = [sample[sample.isfinite()] for sample in samples]
    means = [float(sample.mean()) for sample in samples]
    mean = means[0] - sum(means[1:])
    width = _half_width(samples, confidence)
    return Difference(mean, mean - width, mean + width)


def _half_width(samples: Sequence[Tensor], confidence: float) -> float:
    if min(len(sample) for sample in samples) < 2:
        return float("nan")
    errors = torch.stack([sample.var() / len(sample) for sample in samples])
    if not errors.any():
        return 0.0
    freedom = errors.sum() ** 2 / sum(e**2 / (len(s) - 1) for e, s in zip(errors, samples, strict=True))
    return float(t.ppf((1 + confidence) / 2, float(freedom)) * errors.sum().sqrt())
