"""Does removing latents help a class? Errors before and after, each at its best threshold, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

THRESHOLDS = 64  # of a margin that are tried
RESAMPLES = 1000  # bootstrap samples of the images
CONFIDENCE = 0.95  # coverage of an interval


class BootstrapEstimate(NamedTuple):
    """A value and its bootstrap percentile interval; NaN where there are no images for it.

    Attributes:
        value: as measured.
        low: lower end.
        high: upper end.
        p: chance of a bootstrap sample at or below 0, by its mean and spread (normal); 1 where nothing
            changes.
    """

    value: float
    low: float
    high: float
    p: float


UNKNOWN = BootstrapEstimate(math.nan, math.nan, math.nan, 1.0)


class Cells(NamedTuple):
    """The images of a class, and the others, in parts that count alike.

    Attributes:
        own: `[n]` bool each, parts of the images of the class.
        others: `[n]` bool each, parts of the images that are known not to show it.
    """

    own: tuple[Tensor, ...]
    others: tuple[Tensor, ...]


def net_effect(before: Tensor, after: Tensor, cells: Cells, seed: int = 0) -> BootstrapEstimate:
    """Return by how much removal lowers the balanced error of a class, beyond any shift of its threshold.

    `min_s error(before + s) - min_s error(after + s)`, where `error(m)` is the mean of two shares: that of
    the class's images with `m < 0`, which are missed, and that of the other images with `m >= 0`. Each share
    is a mean over its parts. Above 0 the latents do harm: whatever threshold the class has, it is told better
    without them. Below 0 they are a part of the class. Both errors are taken at their best shift, so a shift
    alone changes nothing.

    Args:
        before: `[n]` margins of the class, its logit minus the largest other one.
        after: `[n]`, without the latents.
        cells: the images.
        seed: of the bootstrap over images.

    Returns:
        In [-0.5, 0.5]; NaN where a part has no images.

    Example:
        >>> own = torch.tensor([True, True, False, False])
        >>> before, after = torch.tensor([1.0, 3.0, 2.0, -1.0]), torch.tensor([1.0, 3.0, -2.0, -1.0])
        >>> net_effect(before, after, Cells((own,), (~own,))).value
        0.25
    """
    if not all(bool(cell.any()) for cell in (*cells.own, *cells.others)):
        return UNKNOWN
    thresholds = [_thresholds(torch.cat([part[cell] for cell in cells.own])) for part in (before, after)]
    generator, errors = np.random.default_rng(seed), np.zeros((2, RESAMPLES + 1, THRESHOLDS))
    for kind, parts in enumerate(cells):
        for cell in parts:
            missed = _shares_below(before[cell], after[cell], thresholds, generator)
            errors += (missed if kind == 0 else 1 - missed) / (2 * len(parts))
    lowest = errors.min(2)
    return _estimate(lowest[0] - lowest[1])


def best_threshold(margins: Tensor, cells: Cells) -> float:
    """Return the margin above which to predict the class so that its balanced error is smallest.

    Args:
        margins: `[n]`, of the class.
        cells: the images.

    Example:
        >>> own = torch.tensor([True, True, False, False])
        >>> best_threshold(torch.tensor([0.0, -1.0, -2.0, -3.0]), Cells((own,), (~own,)))
        -2.0
    """
    thresholds = np.unique([0.0, *margins.double().cpu().numpy()])
    error = np.zeros(len(thresholds))
    for kind, parts in enumerate(cells):
        for cell in parts:
            mine = np.sort(margins[cell].double().cpu().numpy())
            missed = np.searchsorted(mine, thresholds, side="right") / max(len(mine), 1)
            error += (missed if kind == 0 else 1 - missed) / len(parts)
    return float(thresholds[error.argmin()])


def share_change(before: Tensor, after: Tensor, seed: int = 0) -> BootstrapEstimate:
    """Return by how much removal lowers a share of images.

    Args:
        before: `[n]` bool, as it is.
        after: `[n]` bool, without the latents.
        seed: of the bootstrap over images.

    Returns:
        In [-1, 1]; NaN without images.

    Example:
        >>> share_change(torch.tensor([True, True, False, False]), torch.tensor([True, False, False, False]))
        BootstrapEstimate(value=0.25, low=0.0, high=0.75, p=0.119...)
    """
    if len(before) == 0:
        return UNKNOWN
    change = before.long() - after.long()
    kinds = np.array([int((change == value).sum()) for value in (-1, 0, 1)])
    samples = _resampled(kinds, np.random.default_rng(seed)) @ np.array([-1, 0, 1]) / len(before)
    return _estimate(samples)


def gap(first: Tensor, second: Tensor, seed: int = 0) -> BootstrapEstimate:
    """Return by how much a share is larger in one group of images than in another.

    Args:
        first: `[n]` bool.
        second: `[m]` bool.
        seed: of the bootstrap over the images of each.

    Returns:
        In [-1, 1]; NaN without images of either.

    Example:
        >>> gap(torch.tensor([True, True]), torch.tensor([False, False])).value
        1.0
    """
    if min(len(first), len(second)) == 0:
        return UNKNOWN
    generator = np.random.default_rng(seed)
    counts = [np.array([int((~part).sum()), int(part.sum())]) for part in (first, second)]
    shares = [_resampled(count, generator)[:, 1] / count.sum() for count in counts]
    return _estimate(shares[0] - shares[1])


def _estimate(samples: NDArray[np.float64]) -> BootstrapEstimate:
    """Return the first of the samples, with the interval of the others."""
    low, high = np.quantile(samples[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    spread = float(samples[1:].std())
    p = float(norm.sf(samples[0] / spread)) if spread > 0 else float(samples[0] <= 0)
    return BootstrapEstimate(float(samples[0]), float(low), float(high), p)


def _thresholds(margins: Tensor) -> NDArray[np.float64]:
    """Return `[THRESHOLDS]` margins of the class, by rank, as thresholds to try.

    A shift of the scores moves the thresholds along, and the best threshold is one of the margins.
    """
    values = margins.double().cpu().numpy()
    return np.asarray(np.quantile(values, np.linspace(0, 1, THRESHOLDS), method="lower"))


def _shares_below(
    before: Tensor, after: Tensor, thresholds: Sequence[NDArray[np.float64]], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return `[2, 1 + RESAMPLES, THRESHOLDS]`: the shares of images below the thresholds, before and after.

    Before and after have thresholds of their own.
    """
    margins = [margin.double().cpu().numpy() for margin in (before, after)]
    pairs = zip(thresholds, margins, strict=True)
    places = np.stack([np.searchsorted(some, margin, side="right") for some, margin in pairs])
    cells, counts = np.unique(places, axis=1, return_counts=True)  # few: most images do not change
    samples = _resampled(counts, generator) / len(before)
    below = [samples @ (part[:, None] <= np.arange(THRESHOLDS)) for part in cells]
    return np.stack(below)


def _resampled(counts: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `[1 + RESAMPLES, cells]`: how many images each cell has, as it is, then in bootstrap samples."""
    drawn = generator.multinomial(counts.sum(), counts / counts.sum(), size=RESAMPLES)
    return np.concatenate([counts[None], drawn])
