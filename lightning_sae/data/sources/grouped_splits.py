"""What must not be parted: the pictures of one lesion, patient or place go into one split."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_sae.data.images.image_set import Split, listed
from lightning_sae.data.sources.columns import Column
from lightning_sae.data.sources.splits import stratified_split

Rows = NDArray[np.int64]


class Units(NamedTuple):
    """Sets of rows that stay together.

    Attributes:
        names: what each is known by.
        of_row: `[n]` int64, the unit of each row.
    """

    names: list[str]
    of_row: Rows


def units_of(column: Column, paths: Sequence[str]) -> Units:
    """Return a unit for each value of a column; a row without one is a unit by itself, known by its path.

    Example:
        >>> units_of(Column.of(["anna", "", "anna"]), ["1.png", "2.png", "3.png"])
        Units(names=['anna', '2.png'], of_row=array([0, 1, 0]))
    """
    alone = np.flatnonzero(column.codes < 0)
    of_row = column.codes.copy()
    of_row[alone] = len(column.values) + np.arange(len(alone))
    return Units([*column.values, *(paths[row] for row in alone.tolist())], of_row)


def split_together(
    units: Units, labels: Rows, rows: Rows, fractions: Mapping[Split, float], seed: int
) -> dict[Split, Rows]:
    """Return `stratified_split` of whole units, each of the class that most of its rows have.

    Args:
        units: of all rows.
        labels: `[n]` int64 class of each row, -1 for none.
        rows: those to be dealt.
        fractions: share of the units of each class, by split.
        seed: another seed deals otherwise.

    Returns:
        For `train` and each of `fractions` the rows, ascending.

    Example:
        >>> units = units_of(Column.of([*"aabbccdd"]), [""] * 8)
        >>> dealt = split_together(units, np.zeros(8, dtype=np.int64), np.arange(8), {"val": 0.25}, seed=0)
        >>> {name: rows.tolist() for name, rows in dealt.items()}
        {'train': [0, 1, 2, 3, 4, 5], 'val': [6, 7]}
    """
    used, of_row = np.unique(units.of_row[rows], return_inverse=True)
    pairs, counts = np.unique(np.stack([of_row, labels[rows]], 1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))  # the most frequent class of each unit first
    classes = pairs[order][np.unique(pairs[order, 0], return_index=True)[1], 1]
    dealt = stratified_split([units.names[unit] for unit in used], classes, fractions, seed)
    return {name: rows[np.isin(of_row, part)] for name, part in dealt.items()}


def check_together(units: Units, rows: Mapping[Split, Rows], where: str) -> None:
    """Refuse splits that part a unit.

    Raises:
        ValueError: names each, and its splits.
    """
    splits: dict[int, list[str]] = {}
    for name, part in rows.items():
        for unit in np.unique(units.of_row[part]).tolist():
            splits.setdefault(unit, []).append(name)
    parted = [f"{units.names[unit]}: {', '.join(names)}" for unit, names in splits.items() if len(names) > 1]
    if parted:
        raise ValueError(
            f"{len(parted)} values of {where} are in more than one split:{listed(sorted(parted))}\nMend the "
            "split column, leave it out with data.split=null, or give up data.together"
        )
