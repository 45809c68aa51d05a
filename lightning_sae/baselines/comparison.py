"""The trained dictionary beside its baselines, and the numbers that tell that something was learned."""

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pandas as pd

from lightning_sae.baselines.terms import Terms
from lightning_sae.tracking.values import better

COLUMNS = ["key", "baseline", "trained", "baseline_value", "difference", "low", "high", "tells"]
NAMES = ("untrained", "neurons", "components", "shuffled")
"""Names of the baselines, in the order in which they are shown."""
NOT_COMPARED = ("zero_shot/original*", "val/l0", "*dead_fraction", "baseline/*")
"""Keys that are not compared, as all dictionaries share them, training counts them, or baselines log them."""


class DictionaryNumbers(NamedTuple):
    """The numbers of a dictionary.

    Attributes:
        numbers: key -> logged value.
        terms: key -> terms whose mean or sum the number is, where they are known.
    """

    numbers: Mapping[str, float]
    terms: Mapping[str, Terms]


class BaselineTable(NamedTuple):
    """The trained dictionary's numbers beside those of baselines.

    Attributes:
        frame: `COLUMNS`, a row per key and baseline; `tells` is `None` where there is no interval.
    """

    frame: pd.DataFrame

    @property
    def names(self) -> list[str]:
        """The baselines, in the order in which they are shown."""
        found: list[str] = self.frame["baseline"].unique().tolist()
        return sorted(found, key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))

    @property
    def keys(self) -> list[str]:
        """The numbers, in the order of their rows."""
        found: list[str] = self.frame["key"].unique().tolist()
        return found

    def values(self, key: str) -> dict[str, float]:
        """Return the values of a number, one per baseline."""
        rows = self.frame[self.frame["key"] == key]
        return {
            name: float(value) for name, value in zip(rows["baseline"], rows["baseline_value"], strict=True)
        }

    @property
    def silent_keys(self) -> frozenset[str]:
        """The numbers that do not tell the trained dictionary from some baseline."""
        pairs = zip(self.frame["key"], self.frame["tells"], strict=True)
        return frozenset(key for key, tells in pairs if is_silent(tells))

    def silent(self, key: str) -> list[str]:
        """Return the baselines from which a number does not tell the trained dictionary."""
        rows = self.frame[self.frame["key"] == key]
        return [name for name, tells in zip(rows["baseline"], rows["tells"], strict=True) if is_silent(tells)]


def is_silent(tells: Any) -> bool:
    """Return whether a cell of `tells` says that a number does not tell, also as text from a file.

    Example:
        >>> is_silent("False"), is_silent(False), is_silent(None), is_silent(float("nan"))
        (True, True, False, False)
    """
    return str(tells) == "False"


def is_compared(key: str) -> bool:
    """Return whether a key has a better direction and baselines have numbers of their own under it.

    Example:
        >>> is_compared("alignment/mean"), is_compared("zero_shot/original"), is_compared("attribution/bias")
        (True, False, False)
    """
    return better(key) is not None and not any(fnmatchcase(key, pattern) for pattern in NOT_COMPARED)


def compare_with(
    trained: DictionaryNumbers, baselines: Mapping[str, DictionaryNumbers], confidence: float = 0.95
) -> BaselineTable:
    """Return the numbers of the trained dictionary beside those of its baselines.

    A number tells where the interval of the difference lies wholly in the better direction.

    Args:
        trained: numbers of the trained dictionary.
        baselines: name of a baseline -> its numbers.
        confidence: confidence of the intervals, in (0, 1).

    Example:
        >>> import torch
        >>> terms = [{"alignment/mean": Terms(torch.full((2,), mean))} for mean in (0.75, 0.5)]
        >>> one, other = (DictionaryNumbers({"alignment/mean": t["alignment/mean"].number}, t) for t in terms)
        >>> compare_with(one, {"neurons": other}).frame[["difference", "tells"]].values.tolist()
        [[0.25, True]]
    """
    rows = [
        row
        for key in trained.numbers
        if is_compared(key)
        for row in _rows(key, trained, baselines, confidence)
    ]
    return BaselineTable(pd.DataFrame(rows, columns=COLUMNS))


def _rows(
    key: str, trained: DictionaryNumbers, baselines: Mapping[str, DictionaryNumbers], confidence: float
) -> Iterator[tuple[Any, ...]]:
    mine = trained.numbers[key]
    for name, baseline in baselines.items():
        value = baseline.numbers.get(key, math.nan)
        if math.isnan(mine) or math.isnan(value):
            continue
        if key not in trained.terms or key not in baseline.terms:
            yield key, name, mine, value, mine - value, math.nan, math.nan, None
            continue
        found = trained.terms[key].minus(baseline.terms[key], confidence)
        tells = found.low > 0 if better(key) == "max" else found.high < 0
        yield key, name, mine, value, *found, None if math.isnan(found.low) else tells
