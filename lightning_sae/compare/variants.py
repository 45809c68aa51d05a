"""Variants side by side: a run for each, and which class relies on what in which of them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lightning_sae.compare.differences import differing, is_part, value
from lightning_sae.compare.runs import Run
from lightning_sae.concepts.naming import LatentName, names_of
from lightning_sae.tracking.values import Goal


class Variant(NamedTuple):
    """Runs that agree in a part of the config, such as the CLIP.

    Attributes:
        name: what tells it from the others.
        run: the best of its finished runs.
        runs: how many finished runs it has.
    """

    name: str
    run: Run
    runs: int


class CulpritShare(NamedTuple):
    """A culprit of a class, by name, and its share of all that drives the class."""

    name: LatentName
    share: float


class Cell(NamedTuple):
    """The unexpected reliance of a class in one variant.

    Attributes:
        share: unexpected share of what drives the class, in [0, 1]; NaN where it was not judged.
        culprits: names with the sum of their latents' shares, the largest first.
        images: images behind it; 0 where none is known.
    """

    share: float
    culprits: list[CulpritShare]
    images: int


def find_variants(runs: Sequence[Run], by: str, goal: Goal) -> list[Variant]:
    """Group the finished runs by a part of the config, in the order in which they come.

    Args:
        runs: of `read_runs`.
        by: a key or a group of the config (`clip`, `sae.k`), or `run`: each run for itself.
        goal: which run stands for a variant.

    Raises:
        ValueError: no finished run has such a key.
    """
    finished = [run for run in runs if run.finished]
    if by == "run":
        return [Variant(run.name, run, 1) for run in finished]
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in finished:
        groups.setdefault(_part(run, by), []).append(run)
    if () in groups:
        raise ValueError(
            f"{groups[()][0].folder} has no {by!r} in its config: group by another key, or by run"
        )
    best = [_best(group, goal) for group in groups.values()]
    return [
        Variant(name, run, len(group))
        for name, run, group in zip(_names(best, by), best, groups.values(), strict=True)
    ]


def _part(run: Run, by: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, value(run.recipe, key)) for key in run.recipe if is_part(key, by))


def _best(runs: Sequence[Run], goal: Goal) -> Run:
    return min(runs, key=lambda run: goal.sign * run.metrics.get(goal.key, math.inf * goal.sign))


def _names(runs: Sequence[Run], by: str) -> list[str]:
    """Return the values that tell variants apart; the run's name where they are one."""
    keys = [key for key in differing(runs) if is_part(key, by)] or [by]
    names = [" ".join(filter(None, (value(run.recipe, key) for key in keys))) for run in runs]
    return [name or run.name for name, run in zip(names, runs, strict=True)]


def reliance_matrix(variants: Sequence[Variant], top: int = 3) -> dict[str, list[Cell]]:
    """Return for each class a cell per variant.

    The class with the largest unexpected share in any variant comes first. A class that was judged and has no
    culprit has a share of 0; one with too few images, or of a run without the callbacks, NaN.

    Args:
        variants: of `find_variants`.
        top: culprits in a cell.
    """
    names = dict.fromkeys(
        name
        for variant in variants
        for table in ("reliance", "attribution")
        for name in _classes(variant, table)
    )
    matrix = {name: [_cell(variant.run, name, top) for variant in variants] for name in names}
    return dict(
        sorted(matrix.items(), key=lambda row: -max((_known(cell.share) for cell in row[1]), default=0))
    )


def _classes(variant: Variant, table: str) -> list[str]:
    frame = variant.run.table(table)
    return frame["class"].unique().tolist() if len(frame) else []


def _known(share: float) -> float:
    return -1.0 if math.isnan(share) else share


def _cell(run: Run, class_name: str, top: int) -> Cell:
    reliance, driven = run.table("reliance"), run.table("attribution")
    rows = reliance[reliance["class"] == class_name] if len(reliance) else reliance
    if len(rows):
        shares: Counter[LatentName] = Counter()
        for name, share in zip(names_of(rows), rows["share"], strict=True):
            shares[name] += share
        culprits = [CulpritShare(*pair) for pair in shares.most_common(top)]
        return Cell(float(rows["class_share"].iloc[0]), culprits, int(rows["images"].iloc[0]))
    images = _images(driven, class_name)
    least = int(run.recipe.get("callbacks.reliance.min_images", 1))
    judged = len(reliance.columns) > 0 and images >= least
    return Cell(0.0 if judged else math.nan, [], images)


def _images(driven: pd.DataFrame, name: str) -> int:
    rows = driven[driven["class"] == name] if len(driven) else driven
    return int(rows["images"].iloc[0]) if len(rows) else 0


def contrasts(matrix: dict[str, list[Cell]], least: float = 0.25) -> list[tuple[str, int, int]]:
    """Return the classes on which variants differ most, each with two variants.

    The first of the two has the largest unexpected share, the second the smallest.

    Args:
        matrix: of `reliance_matrix`.
        least: smallest difference of the two shares that counts.
    """
    found = []
    for name, cells in matrix.items():
        known = [place for place, cell in enumerate(cells) if not math.isnan(cell.share)]
        if len(known) > 1:
            high, low = (pick(known, key=lambda i: cells[i].share) for pick in (max, min))
            if cells[high].share - cells[low].share >= least:
                found.append((name, high, low))
    return sorted(found, key=lambda row: matrix[row[0]][row[2]].share - matrix[row[0]][row[1]].share)
