"""Phrases that captions have where a latent fires and lack where it does not."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm
from sklearn.feature_extraction.text import CountVectorizer

Array = NDArray[np.float64]
PRIOR = 500.0  # captions' worth of phrases, as frequent as in all captions


class Phrases(NamedTuple):
    """The phrases of some captions.

    Attributes:
        names: each of one to three words, as the captions have them, in lower case.
        present: `[n_captions, n_phrases]`, 1 where a caption has a phrase.
    """

    names: list[str]
    present: csr_array


class TypicalPhrase(NamedTuple):
    """A phrase that is more frequent where a latent fires.

    Attributes:
        name: the phrase.
        z: its log-odds ratio, in standard deviations.
        inside: captions of firing images that have it.
        outside: captions of other images that have it.
    """

    name: str
    z: float
    inside: int
    outside: int


def phrases_of(captions: Sequence[str], longest: int = 3, min_captions: int = 5) -> Phrases:
    """Return the phrases of captions (scikit-learn's `CountVectorizer`).

    Args:
        captions: one an image.
        longest: words of a phrase at most.
        min_captions: that have a phrase at least; rarer ones are left out.

    Returns:
        None at all where no phrase is in enough captions.

    Example:
        >>> phrases_of(["a red star", "a red sun"], min_captions=2).names
        ['a', 'a red', 'red']
    """
    form: dict[str, Any] = {"ngram_range": (1, longest), "min_df": min_captions, "binary": True}
    counter = CountVectorizer(token_pattern=r"(?u)\b\w+\b", **form)
    if len(captions) < min_captions:
        return Phrases([], csr_array((len(captions), 0)))
    try:
        present = counter.fit_transform(captions)
    except ValueError:  # no phrase is left
        return Phrases([], csr_array((len(captions), 0)))
    return Phrases([str(name) for name in counter.get_feature_names_out()], csr_array(present))


def log_odds_z(inside: Array, outside: Array, prior: float = PRIOR) -> Array:
    """Return how much more frequent each phrase is inside, in standard deviations.

    Log-odds ratio with an informative Dirichlet prior: with counts `y`, their sums `n`, and `a` proportional
    to the counts of both together with the sum `a_0`, `d = log((y_i + a) / (n_i + a_0 - y_i - a)) -
    log((y_o + a) / (n_o + a_0 - y_o - a))`, over the root of its variance `1 / (y_i + a) + 1 / (y_o + a)`.
    Monroe, Colaresi and Quinn 2008, Fightin' Words, Political Analysis 16(4), equations 15 to 22.

    Args:
        inside: `[V]` counts where the latent fires.
        outside: `[V]` counts where it does not.
        prior: `a_0`; the larger, the more rare phrases are drawn to the frequency that they have in all.

    Returns:
        `[V]`; 0 for a phrase that is nowhere, and for the only one.

    Example:
        >>> log_odds_z(np.array([8.0, 2.0]), np.array([2.0, 8.0]), prior=2.0).round(3).tolist()
        [3.296, -3.296]
    """
    both = inside + outside
    a = prior * both / max(both.sum(), 1)
    somewhere = (both > 0) & (both < both.sum())
    inner, outer = (
        np.log((y + a)[somewhere] / (y.sum() + prior - y - a)[somewhere]) for y in (inside, outside)
    )
    variance = 1 / (inside + a)[somewhere] + 1 / (outside + a)[somewhere]
    z = np.zeros_like(both)
    z[somewhere] = (inner - outer) / np.sqrt(variance)
    return z


def typical_phrases(
    phrases: Phrases, fires: NDArray[np.bool_], level: float = 0.01, most: int = 20
) -> list[TypicalPhrase]:
    """Return the phrases that captions of firing images have more often than chance gives to any phrase.

    Args:
        phrases: of `n` captions.
        fires: `[n]`, whether the latent fires on each image.
        level: of the test of all phrases together (Bonferroni, normal approximation), in (0, 1).
        most: phrases to return, the most typical first.

    Example:
        >>> found = phrases_of(["a star"] * 50 + ["a sun"] * 50)
        >>> [phrase.name for phrase in typical_phrases(found, np.arange(100) < 50)]
        ['a star', 'star']
    """
    if not phrases.names:
        return []
    inside = np.asarray(phrases.present[fires].sum(0), dtype=float)
    outside = np.asarray(phrases.present[~fires].sum(0), dtype=float)
    z = log_odds_z(inside, outside)
    least = norm.isf(level / len(z))
    order = np.argsort(-z, kind="stable")[:most]
    return [
        TypicalPhrase(phrases.names[i], float(z[i]), int(inside[i]), int(outside[i]))
        for i in order
        if z[i] > least
    ]
