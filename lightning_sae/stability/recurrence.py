"""Latents that recur in other dictionaries of the same recipe: in direction and on the same images."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from lightning_sae.compare.matching import Array, firing_correlation

LEVEL = 0.05  # of the null: the share of latents that have a match by chance, at most
GRID = np.linspace(-1, 1, 20_001)  # of cosines and correlations, so fine are the limits
CHUNK = 1024  # latents at a time; memory grows with it and with the size of the other dictionary


class Dictionary(NamedTuple):
    """The latents of one training.

    Attributes:
        directions: `[m, d_in]` decoder rows, of any length above 0.
        activations: `[n, m]`, on the same `n` images in all dictionaries that are compared.
    """

    directions: Array
    activations: csc_array


class MatchLimits(NamedTuple):
    """Values above which two latents are alike.

    Attributes:
        cosine: of their decoder rows.
        correlation: of their activations over the images.
    """

    cosine: float
    correlation: float


class Best(NamedTuple):
    """Similarity of each of `m` latents to the most similar one of another dictionary.

    Attributes:
        similarity: `[m]` in [-1, 1], the smaller one of `cosine` and `correlation`.
        cosine: `[m]`, of the decoder rows.
        correlation: `[m]`, of the activations over the images.
    """

    similarity: Array
    cosine: Array
    correlation: Array


class Recurrence(NamedTuple):
    """Latents of several dictionaries, and which of them recur.

    Attributes:
        limits: two latents match if they are above both limits.
        best: for each dictionary, place of another one -> similarity to the most similar latents there.
        pairs: places of two dictionaries, the lower first -> `[k, 2]` int64, their latents that match.
    """

    limits: MatchLimits
    best: list[dict[int, Best]]
    pairs: dict[tuple[int, int], NDArray[np.int64]]

    def matched(self, place: int) -> NDArray[np.bool_]:
        """Return `[n - 1, m]`, whether each latent of a dictionary has a match in each other one."""
        return np.stack([self._matched(place, other) for other in self.best[place]])

    def _matched(self, place: int, other: int) -> NDArray[np.bool_]:
        pairs = self.pairs[min(place, other), max(place, other)]
        return np.isin(np.arange(len(self.best[place][other].cosine)), pairs[:, int(place > other)])

    def probability(self, place: int) -> Array:
        """Return `[m]`, the share of the other dictionaries in which each latent has a match."""
        probability: Array = self.matched(place).mean(0)
        return probability

    def means(self, place: int) -> Best:
        """Return the best similarity of each latent, with its parts, as means over the other dictionaries."""
        return Best(*(np.mean(parts, 0) for parts in zip(*self.best[place].values(), strict=True)))


def find_recurring(dictionaries: Sequence[Dictionary], level: float = LEVEL) -> Recurrence:
    """Look for every latent in every other dictionary.

    Two latents match if they are alike in direction *and* on images: the cosine of their decoder rows and the
    correlation of their activations both lie above a limit (`find_limits`). Only a share `level` of all
    latents has *another* latent of its own dictionary above both. The right latent is absent there by
    construction, so this is the share that matches by chance.

    Args:
        dictionaries: at least two, with two latents or more each.
        level: of the null, in (0, 1).

    Raises:
        ValueError: fewer dictionaries or latents, or other images.

    Example:
        >>> one = Dictionary(np.eye(4)[:3], csc_array(np.eye(4)[:, :3]))
        >>> other = Dictionary(np.eye(4)[[2, 0, 3]], csc_array(np.eye(4)[:, [2, 0, 3]]))
        >>> find_recurring([one, other]).probability(0).tolist()
        [1.0, 0.0, 1.0]
    """
    _check(dictionaries)
    limits = find_limits(dictionaries, level)
    best: list[dict[int, Best]] = [{} for _ in dictionaries]
    pairs = {}
    for i, j in combinations(range(len(dictionaries)), 2):
        best[i][j], best[j][i], pairs[i, j] = _search(dictionaries[i], dictionaries[j], limits)
    return Recurrence(limits, best, pairs)


def find_limits(dictionaries: Sequence[Dictionary], level: float = LEVEL) -> MatchLimits:
    """Return limits above which only a share `level` of the latents has another latent of its dictionary.

    Cosines and correlations are brought to one scale: each becomes the share of all pairs of different
    latents of one dictionary that are no more alike. The lower one of its two shares says how alike a pair
    is. Both limits lie at one share, above which only a share `level` of the latents has another latent.

    Args:
        dictionaries: of one recipe.
        level: in (0, 1).
    """
    counts = np.zeros((2, len(GRID) - 1), dtype=np.int64)
    for parts in _others(dictionaries):
        counts += [np.histogram(part, GRID)[0] for part in parts]
    shares = counts.cumsum(1) / counts[0].sum()
    nearest = [
        np.minimum(*(known[_bins(part)] for known, part in zip(shares, parts, strict=True))).max(1)
        for parts in _others(dictionaries)
    ]
    at = np.quantile(np.concatenate(nearest), 1 - level, method="higher")
    return MatchLimits(*(float(GRID[np.searchsorted(known, at) + 1]) for known in shares))


def _bins(values: Array) -> NDArray[np.int64]:
    """Return the place in `GRID` of the interval that each value is in."""
    places: NDArray[np.int64] = np.searchsorted(GRID, values, side="right") - 1
    return places.clip(0, len(GRID) - 2)


def _others(dictionaries: Sequence[Dictionary]) -> Iterator[tuple[Array, Array]]:
    """Yield cosines and correlations of some latents with all of their dictionary, -1 with themselves."""
    for dictionary in dictionaries:
        for start, *parts in _chunks(dictionary, dictionary):
            own = np.arange(len(parts[0]))
            for part in parts:
                part[own, start + own] = -1.0
            yield parts[0], parts[1]


def _check(dictionaries: Sequence[Dictionary]) -> None:
    if len(dictionaries) < 2:
        raise ValueError(f"whether latents recur takes two dictionaries at least, got {len(dictionaries)}")
    if (fewest := min(len(one.directions) for one in dictionaries)) < 2:
        raise ValueError(f"a dictionary needs two latents at least, got one with {fewest}")
    if len({one.activations.shape[0] for one in dictionaries}) > 1:
        raise ValueError("the activations of the dictionaries are not over the same images")


def _chunks(one: Dictionary, other: Dictionary) -> Iterator[tuple[int, Array, Array]]:
    """Yield cosines and correlations of some latents of one dictionary with all of the other."""
    units = _units(other.directions).T
    for start in range(0, len(one.directions), CHUNK):
        some = slice(start, start + CHUNK)
        cosine = (_units(one.directions[some]) @ units).clip(-1, 1)
        yield start, cosine, firing_correlation(one.activations[:, some], other.activations)


def _units(rows: Array) -> Array:
    units: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _search(one: Dictionary, other: Dictionary, limits: MatchLimits) -> tuple[Best, Best, NDArray[np.int64]]:
    """Return the best similarity of each latent of either one to the other, and the pairs that match."""
    mine, pairs = [], []
    theirs = Best(*np.full((3, len(other.directions)), -np.inf))
    for start, cosine, correlation in _chunks(one, other):
        similarity = np.minimum(cosine, correlation)
        mine.append(_most(similarity, cosine, correlation))
        nearer = _most(similarity.T, cosine.T, correlation.T)
        theirs = Best(*np.where(nearer.similarity > theirs.similarity, nearer, theirs))
        alike = (cosine > limits.cosine) & (correlation > limits.correlation)
        pairs.append(np.argwhere(alike) + np.array([start, 0]))
    return Best(*np.concatenate(mine, axis=1)), theirs, np.concatenate(pairs)


def _most(similarity: Array, *parts: Array) -> Best:
    rows, place = np.arange(len(similarity)), similarity.argmax(1)
    return Best(*(part[rows, place] for part in (similarity, *parts)))
