"""Runs and variants compared: which is best, who relies on what, what they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_sae.compare.runs import Run, read_runs
from lightning_sae.compare.seeds import SeedComparison, compare_recipes
from lightning_sae.compare.shared_concepts import Concepts, compare_concepts
from lightning_sae.compare.table import RunTable, run_table
from lightning_sae.compare.variants import Cell, Variant, find_variants, reliance_matrix
from lightning_sae.compare.widths import WidthComparison, compare_widths
from lightning_sae.tracking.values import Goal

MOST_VARIANTS = 8  # side by side on the page; every two of them are matched


class Comparison(NamedTuple):
    """All that a comparison of runs found.

    Attributes:
        runs: all runs.
        table: of all runs.
        goal: which run is best.
        trade_off: the two goals of the Pareto front.
        front: names of the finished runs on the Pareto front.
        variants: finished runs side by side.
        left_out: names of the variants beyond `MOST_VARIANTS`.
        matrix: class -> what it relies on, per variant.
        concepts: what the variants share.
        seeds: what recurs of recipes with several seeds.
        widths: parents and children in recipes with several widths.
    """

    runs: list[Run]
    table: RunTable
    goal: Goal
    trade_off: tuple[Goal, Goal]
    front: list[str]
    variants: list[Variant]
    left_out: list[str]
    matrix: dict[str, list[Cell]]
    concepts: Concepts
    seeds: SeedComparison
    widths: WidthComparison

    @property
    def side_by_side(self) -> bool:
        """True if there are several variants: a reader then compares variants, and otherwise runs."""
        return len(self.variants) > 1

    @property
    def unfinished(self) -> list[Run]:
        """Runs that lack something."""
        return [run for run in self.runs if not run.finished]

    def bests(self) -> list[tuple[Run, str]]:
        """Return the best run and those on the front, each with the reason."""
        runs = {run.name: run for run in self.runs}
        finished = self.table.frame[self.table.frame["finished"]]
        best = [finished.index[0]] if len(finished) and finished[self.goal.key].notna().iloc[0] else []
        reasons = dict.fromkeys([*best, *self.front], f"on the front of {self.trade_off_words}")
        for name in best:
            also = f", {reasons[name]}" if name in self.front else ""
            reasons[name] = f"best by {self.goal.key} ({runs[name].metrics[self.goal.key]:.4g}){also}"
        return [(runs[name], reason) for name, reason in reasons.items()]

    @property
    def trade_off_words(self) -> str:
        """`val/l0 and val/fvu`."""
        return " and ".join(goal.key for goal in self.trade_off)


def compare(
    folders: Sequence[str | Path], goal: Goal, trade_off: tuple[Goal, Goal], by: str = "clip"
) -> Comparison:
    """Read runs and compare them; write nothing.

    Args:
        folders: run folders, or folders of them.
        goal: which run is best.
        trade_off: two goals for the Pareto front.
        by: part of the config that makes a variant, or `run`.

    Raises:
        FileNotFoundError: a folder without runs.
        ValueError: a goal that no run has logged, or a part that no config has.
    """
    runs = read_runs(folders)
    table = run_table(runs, goal, by)
    finished = table.frame[table.frame["finished"]]
    lacking = [g.key for g in trade_off if g.key not in table.frame]
    if lacking and len(finished):
        raise ValueError(f"no run has logged {lacking[0]!r}: choose two others for the front")
    on_front = pareto_front(finished.reindex(columns=[g.key for g in trade_off]), trade_off)
    found = find_variants(runs, by, goal)
    variants = found[:MOST_VARIANTS]
    left_out = [variant.name for variant in found[MOST_VARIANTS:]]
    matrix, concepts = reliance_matrix(variants), compare_concepts(variants)
    names = [str(name) for name in finished.index[on_front]]
    done = [run for run in runs if run.finished]
    seeds, widths = compare_recipes(done), compare_widths(done)
    return Comparison(
        runs, table, goal, trade_off, names, variants, left_out, matrix, concepts, seeds, widths
    )


def pareto_front(values: ArrayLike, goals: Sequence[Goal]) -> NDArray[np.bool_]:
    """Return which rows are not dominated: no other row is as good in every goal and better in one.

    Args:
        values: `[n, m]`, a column per goal; a row with a NaN is never on the front.
        goals: the `m` goals.

    Returns:
        `[n]` bool; equal rows are on the front together.

    Example:
        >>> from lightning_sae.tracking.values import goal
        >>> pareto_front([[16, 0.03], [32, 0.01], [32, 0.02]], [goal("val/l0"), goal("val/fvu")]).tolist()
        [True, True, False]
    """
    costs = np.asarray(values, dtype=float) * [goal.sign for goal in goals]
    known = ~np.isnan(costs).any(1)
    front = np.zeros(len(costs), dtype=bool)
    for row in np.flatnonzero(known):
        as_good, better = (costs[known] <= costs[row]).all(1), (costs[known] < costs[row]).any(1)
        front[row] = not (as_good & better).any()
    return front
