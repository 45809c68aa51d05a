"""How well something is steered: success against damage over strength, and the area under that."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

Floats = NDArray[np.float64]


class Area(NamedTuple):
    """An area under a curve with its 95 % interval, NaN below two pairs."""

    mean: float
    low: float
    high: float


class Curve(NamedTuple):
    """The effect of steering, at each of `s` strengths, on each of `p` pairs of images.

    Attributes:
        strengths: `[s]`, ascending from 0.
        success: `[s, p]` in [0, 1], whether the named factor is as asked.
        damage: `[s, p]` in [0, 1], lost share of the other answers that are read off an image; NaN where
            there are no others.
        distance: `[s, p]` >= 0, `1 - cos` between the steered embedding and that of the other image of the
            pair, in which only the named factor has changed.
    """

    strengths: Floats
    success: Floats
    damage: Floats
    distance: Floats

    def means(self) -> tuple[Floats, Floats, Floats]:
        """Return success, damage and distance at each strength, `[s]` each."""
        return self.success.mean(1), _mean(self.damage), self.distance.mean(1)

    def area(self, most: float, resamples: int = 1000, seed: int = 0) -> Area:
        """Return the area under success against damage, with its bootstrap interval over the pairs.

        Args:
            most: damage up to which the area goes, in (0, 1].
            resamples: bootstrap samples of the pairs.
            seed: of the resampling.
        """
        pairs = np.arange(self.success.shape[1])
        statistic = partial(self._area_of, most)
        whole = float(statistic(pairs, axis=-1))
        if len(pairs) < 2:
            return Area(whole, np.nan, np.nan)
        found = bootstrap(
            (pairs,),
            statistic,
            n_resamples=resamples,
            batch=100,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return Area(whole, float(found.low), float(found.high))

    def _area_of(self, most: float, pairs: NDArray[np.int64], axis: int) -> Floats:
        assert axis in (-1, pairs.ndim - 1)
        success, damage = self.success[:, pairs].mean(-1), _mean(self.damage[:, pairs])
        return area_under(np.moveaxis(success, 0, -1), np.moveaxis(damage, 0, -1), most)


def _mean(damage: Floats) -> Floats:
    """Return the mean over pairs; 0 where there is nothing to be damaged."""
    known = np.isfinite(damage)
    found: Floats = np.where(known, damage, 0).sum(-1) / known.sum(-1).clip(min=1)
    return found


def area_under(success: Floats, damage: Floats, most: float) -> Floats:
    """Return the mean, over all damages that may be allowed up to a limit, of the best success they buy.

    With `S(d) = max of the success at strengths whose damage is at most d`, it is
    `1/most * integral of S(d) from 0 to most`: 1 for full success without damage. As it takes the best
    strength for each allowed damage, the curves need not rise.

    Args:
        success: `[..., s]` in [0, 1].
        damage: `[..., s]` >= 0, 0 for one strength at least, as for 0.
        most: the limit, > 0.

    Example:
        >>> round(float(area_under(np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.0, 0.05]), most=0.1)), 6)
        0.75
    """
    order = np.argsort(damage, axis=-1, kind="stable")
    d = np.take_along_axis(damage, order, -1)
    best = np.maximum.accumulate(np.take_along_axis(success, order, -1), -1)
    ends = np.concatenate([d[..., 1:], np.full_like(d[..., :1], most)], -1)
    widths = ends.clip(max=most) - d.clip(max=most)
    found: Floats = (best * widths).sum(-1) / most
    return found
