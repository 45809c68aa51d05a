"""Which latents respond to what: the formulas, over pairs of images that differ in one thing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.stats import t as student_t

from lightning_sae.concepts.csr import csr_of
from lightning_sae.pairs.pair import Contrast
from lightning_sae.types import SparseLatents

Floats = NDArray[np.float64]
SCALE = 0.9
"""Quantile of a latent's activations above 0 that is the unit of its responses."""


class FactorValue(NamedTuple):
    """A value of a factor, as `brown` of `background`; the value is "" where the factor itself comes."""

    factor: str
    value: str

    def __str__(self) -> str:
        return f"{self.factor}={self.value}" if self.value else self.factor


def activation_scale(latents: SparseLatents) -> Floats:
    """Return the unit of each latent's responses: the 90 % quantile of its activations above 0.

    A response of 1 is one from silent to as strong as on the most active tenth of the images on which it is
    active. A latent that is active on a few images alone has a unit as well.

    Args:
        latents: of the validation images.

    Returns:
        `[d_sae]`, NaN for a latent that is never active.

    Example:
        >>> import torch
        >>> activation_scale(SparseLatents.from_dense(torch.tensor([[0.0, 2.0], [0.0, 4.0]])))
        array([nan, 4.])
    """
    columns = csr_of(latents).tocsc()
    columns.data[columns.data < 0] = 0
    columns.eliminate_zeros()
    order = np.lexsort((columns.data, np.repeat(np.arange(columns.shape[1]), np.diff(columns.indptr))))
    counts = np.diff(columns.indptr)
    places = columns.indptr[:-1] + np.ceil(SCALE * counts).astype(np.int64) - 1
    return np.where(counts > 0, columns.data[order][places.clip(min=0)] if len(order) else np.nan, np.nan)


class Responses(NamedTuple):
    """The responses of all latents to all values, each in units of its own scale.

    A pair from value `u` to value `v` speaks for `v` and, with its images exchanged, for `u`.

    Attributes:
        values: `V` values.
        counts: `[V]` int64, pairs that speak for each.
        response: `[V, d_sae]`, mean change of the activation when the value comes; NaN for a latent without
            a scale.
        right_way: `[V, d_sae]` in [0, 1], share of the pairs in which the latent rises as the value comes;
            one in which it does not move counts half.
        error: `[V, d_sae]`, standard error of the response; NaN below two pairs.
        movement: `[F, d_sae]` >= 0, mean absolute change over all pairs of a factor.
        factors: `F` factors.
    """

    values: Sequence[FactorValue]
    counts: NDArray[np.int64]
    response: Floats
    right_way: Floats
    error: Floats
    movement: Floats
    factors: Sequence[str]

    def p_values(self, values: NDArray[np.int64], latents: NDArray[np.int64]) -> Floats:
        """Return the chance `[m]` of so large responses if the means were 0 or less, by Student's t test.

        Args:
            values: `[m]`, places of values.
            latents: `[m]`, a latent each.

        Returns:
            In [0, 1]; NaN for a latent without a scale, 1 for one that never moves and below two pairs.
        """
        return p_above_zero(self.response[values, latents], self.error[values, latents], self.counts[values])

    @property
    def side_effect(self) -> Floats:
        """`[V, d_sae]` >= 0, the largest movement with any other factor; NaN where there is no other."""
        found = np.full(self.response.shape, np.nan)
        for v, value in enumerate(self.values):
            others = [f for f, factor in enumerate(self.factors) if factor != value.factor]
            if others:
                found[v] = self.movement[others].max(0)
        return found

    @property
    def selectivity(self) -> Floats:
        """`[V, d_sae]` in [0, 1]: `r / (r + side effect)`, `r` the response, 0 where it is not above 0.

        At one half, the latent moves as much with another factor; above 0.8, less than a quarter as much.
        """
        r = self.response.clip(min=0)
        with np.errstate(invalid="ignore"):
            share: Floats = r / (r + self.side_effect)
        return share

    @property
    def specificity(self) -> Floats:
        """`[d_sae]` in [0, 1]: `1 - H(m / sum m) / log F` of the movements `m` with the `F` factors.

        1 for a latent that moves with a single factor, 0 for one that moves with all alike: the D of DCI
        (Eastwood and Williams 2018) with movements as the importances. NaN for one that never moves, or
        where there is one factor alone.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = self.movement / self.movement.sum(0)
            entropy = -np.where(shares > 0, shares * np.log(shares), 0 * shares).sum(0)
            found: Floats = 1 - entropy / np.log(len(self.factors))
        return np.where(np.isfinite(found), found, np.nan)


class Moved(NamedTuple):
    """The changes of the latents between the two images of each pair.

    Attributes:
        changes: `[p, d_sae]`, activation in the second image less that in the first.
        contrasts: in what the two differ.
    """

    changes: csr_array
    contrasts: Sequence[Contrast]

    def halves(self) -> tuple["Moved", "Moved"]:
        """Return the pairs of `halves_of`: one half chooses, the other measures."""
        first, second = halves_of(self.contrasts)
        return self._rows(first), self._rows(second)

    def _rows(self, rows: NDArray[np.int64]) -> "Moved":
        return Moved(self.changes[rows], [self.contrasts[i] for i in rows])

    def samples(self, value: FactorValue, latents: Sequence[int], scale: Floats) -> Floats:
        """Return `[n, len(latents)]`: change of some latents in the pairs that speak for a value."""
        sign = signs_of(self.contrasts, [value]).toarray()[0]
        rows = np.flatnonzero(sign)
        found: Floats = sign[rows, None] * self.changes[rows][:, latents].toarray() / scale[list(latents)]
        return found


def halves_of(contrasts: Sequence[Contrast]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of every second pair to each value, and those of the others.

    Example:
        >>> chooses, measures = halves_of([Contrast("hat", None, "red")] * 3 + [Contrast("sky", None, "")])
        >>> chooses.tolist(), measures.tolist()
        ([0, 2, 3], [1])
    """
    turns: dict[FactorValue, int] = {}
    first = np.zeros(len(contrasts), dtype=bool)
    for i, contrast in enumerate(contrasts):
        value = FactorValue(contrast.factor, contrast.after)
        turns[value] = turns.get(value, 0) + 1
        first[i] = turns[value] % 2 == 1
    return np.flatnonzero(first), np.flatnonzero(~first)


def signs_of(contrasts: Sequence[Contrast], values: Sequence[FactorValue]) -> csr_array:
    """Return `[V, p]`: 1 where a value comes, -1 where it goes, else 0."""
    place = {value: v for v, value in enumerate(values)}
    entries = [
        (place[value], i, sign)
        for i, contrast in enumerate(contrasts)
        for value, sign in _sides(contrast)
        if value in place
    ]
    rows, columns, signs = zip(*entries, strict=True) if entries else ((), (), ())
    shape = (len(values), len(contrasts))
    return csr_array((np.array(signs, dtype=np.float64), (rows, columns)), shape=shape)


def p_above_zero(mean: Floats, error: Floats, n: NDArray[np.int64]) -> Floats:
    """Return the chance of so large means if the truth were 0 or less, by Student's t test.

    Args:
        mean: `[m]`, of `n` differences.
        error: `[m]`, its standard error.
        n: `[m]`.

    Returns:
        In [0, 1]; 1 where nothing differs or `n` is 1, NaN for a mean of NaN.

    Example:
        >>> p_above_zero(np.array([1.0, 0.0]), np.array([0.5, 0.0]), np.array([10, 10])).round(3).tolist()
        [0.038, 1.0]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = student_t.sf(mean / error, n - 1)
    return np.where(np.isnan(mean), np.nan, np.where(np.isnan(found), 1.0, found))


def _sides(contrast: Contrast) -> list[tuple[FactorValue, int]]:
    comes = [(FactorValue(contrast.factor, contrast.after), 1)]
    goes = [] if contrast.before is None else [(FactorValue(contrast.factor, contrast.before), -1)]
    return [*comes, *goes]


def values_of(contrasts: Sequence[Contrast], least: int = 1) -> list[FactorValue]:
    """Return the values that at least `least` pairs speak for, by factor, in the order of the pairs."""
    counts: dict[FactorValue, int] = {}
    for contrast in contrasts:
        for value, _ in _sides(contrast):
            counts[value] = counts.get(value, 0) + 1
    factors = list(dict.fromkeys(contrast.factor for contrast in contrasts))
    return sorted(
        (value for value, n in counts.items() if n >= least), key=lambda value: factors.index(value.factor)
    )


def respond(moved: Moved, values: Sequence[FactorValue], scale: Floats) -> Responses:
    """Measure the responses.

    Args:
        moved: how the latents move.
        values: that are asked for.
        scale: `[d_sae]` of `activation_scale`.

    Example:
        >>> pairs = [Contrast("hat", None, "red")] * 2 + [Contrast("sky", None, "blue")]
        >>> moved = Moved(csr_array(np.array([[2.0, 0.0], [4.0, 0.0], [-1.0, 3.0]])), pairs)
        >>> found = respond(moved, values_of(pairs), scale=np.array([4.0, 6.0]))
        >>> found.response.tolist(), found.right_way.tolist()
        ([[0.75, 0.0], [-0.25, 0.5]], [[1.0, 0.5], [0.0, 1.0]])
        >>> found.side_effect.tolist(), float(found.selectivity[0, 0])
        ([[0.25, 0.5], [0.75, 0.0]], 0.75)
    """
    known = np.isfinite(scale)
    own = diags_array(np.where(known, 1 / np.where(known, scale, 1), 0))
    changes, signs = csr_array(moved.changes @ own), signs_of(moved.contrasts, values)
    ways = changes.sign()
    counts = np.diff(signs.indptr)
    n = np.maximum(counts, 1)[:, None]
    mean = (signs @ changes).toarray() / n
    square = (abs(signs) @ changes.multiply(changes).tocsr()).toarray() / n
    factors = list(dict.fromkeys(contrast.factor for contrast in moved.contrasts))
    of = csr_array(
        [[contrast.factor == f for contrast in moved.contrasts] for f in factors], dtype=np.float64
    )
    movement = (of @ abs(changes)).toarray() / of.sum(axis=1)[:, None]
    silent = ~known
    for part in (mean, movement):
        part[:, silent] = np.nan
    right = (1 + (signs @ ways).toarray() / n) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(n > 1, np.sqrt((square - mean**2).clip(min=0) / (n - 1)), np.nan)
    return Responses(values, counts, mean, right, error, movement, factors)
