"""The jobs of a sweep, the best first: what stands at its end on the terminal."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from lightning_sae.compare.comparison import pareto_front
from lightning_sae.compare.runs import Run, read_runs
from lightning_sae.compare.table import RunTable, print_table, run_table
from lightning_sae.tracking.values import Goal, better, goal, shown_value
from lightning_sae.trust.control_characters import escape

SHOWN = 20  # jobs in the table, and failed ones in the list
_BEST_BY = "val/fvu"
_TRADE_OFFS = (("val/fvu", "alignment/named"), ("val/l0", "val/fvu"))
"""The first pair whose values are both logged is taken; `lightning-sae compare` has the last by default."""


class JobRanking(NamedTuple):
    """The jobs of a sweep.

    Attributes:
        runs: all jobs.
        table: of all jobs, the best first.
        goal: which is best; `None` where no job has finished or none has logged anything to rank by.
        trade_off: two goals of the front; none where they are not logged.
        front: names of the finished jobs that no other beats in both.
    """

    runs: list[Run]
    table: RunTable | None
    goal: Goal | None
    trade_off: tuple[Goal, ...]
    front: list[str]

    @property
    def unfinished(self) -> list[Run]:
        """Jobs that did not finish."""
        return [run for run in self.runs if not run.finished]


def rank_jobs(folder: Path, metrics: Sequence[str] = (), directions: Sequence[str] = ()) -> JobRanking:
    """Rank the jobs of a sweep by their folders.

    Args:
        folder: of the sweep.
        metrics: what the sweep optimises, if anything: the first says which job is best, the first two make
            the front.
        directions: `minimize` or `maximize` for each of them; if empty, the known directions of the metrics.

    Raises:
        FileNotFoundError: there is no job.
    """
    runs = read_runs([folder])
    finished = [run for run in runs if run.finished]
    logged = {key for run in finished for key in run.metrics}
    goals = _goals(metrics, directions, logged)
    if not goals:
        return JobRanking(runs, None, None, (), [])
    table = run_table(runs, goals[0])
    trade_off = tuple(goals[:2]) if len(goals) > 1 else _trade_off(logged)
    front: list[str] = []
    if trade_off:
        rows = table.frame[table.frame["finished"]]
        on_front = pareto_front(rows[[one.key for one in trade_off]], trade_off)
        front = [str(name) for name in rows.index[on_front]]
    return JobRanking(runs, table, goals[0], trade_off, front)


def _goals(metrics: Sequence[str], directions: Sequence[str], logged: Collection[str]) -> list[Goal]:
    ways = [f":{direction[:3]}" for direction in directions] or [""] * len(metrics)
    asked = [goal(f"{key}{way}") for key, way in zip(metrics, ways, strict=True) if way or better(key)]
    known = [one for one in asked if one.key in logged]
    return known or [goal(key) for key in (_BEST_BY,) if key in logged]


def _trade_off(logged: Collection[str]) -> tuple[Goal, ...]:
    """Return the two goals of the front where nothing else was asked for."""
    there = (pair for pair in _TRADE_OFFS if {*pair} <= {*logged})
    return tuple(goal(key) for key in next(there, ()))


def compare_command(ranking: JobRanking, folder: Path) -> str:
    """Return the command that compares the jobs, with this ranking's goals if they are not its defaults."""
    words = ["lightning-sae", "compare", str(folder)]
    if ranking.goal is not None and ranking.goal.key != _BEST_BY:
        words += ["--sort", _asked_for(ranking.goal)]
    if ranking.trade_off and tuple(one.key for one in ranking.trade_off) != _TRADE_OFFS[-1]:
        words += ["--pareto", *map(_asked_for, ranking.trade_off)]
    return shlex.join(words)


def _asked_for(wanted: Goal) -> str:
    return wanted.key if better(wanted.key) == wanted.direction else f"{wanted.key}:{wanted.direction}"


def print_ranking(console: Console, ranking: JobRanking, folder: Path) -> None:
    """Print the best jobs, the front, what failed and why, and the command that goes on."""
    console.print()
    if ranking.table is not None and ranking.goal is not None:
        _print_best(console, ranking, ranking.table, ranking.goal)
    unfinished = ranking.unfinished
    if unfinished:
        console.print(f"{len(unfinished)} of {len(ranking.runs)} jobs did not finish:", style="yellow")
    for run in unfinished[:SHOWN]:
        console.print(f"  {escape(run.name)}: {escape(run.why)}", style="yellow", soft_wrap=True)
    if len(unfinished) > SHOWN:
        console.print(f"  and {len(unfinished) - SHOWN} more", style="yellow")
    if len(unfinished) < len(ranking.runs):
        console.print("All of them, with pictures and what they share:")
        console.print(f"  {escape(compare_command(ranking, folder))}", soft_wrap=True, highlight=False)


def _print_best(console: Console, ranking: JobRanking, table: RunTable, goal: Goal) -> None:
    rows = table.frame[table.frame["finished"]]
    print_table(console, table._replace(frame=rows.head(SHOWN)), goal, ranking.front)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more", style="dim")
    best = rows.iloc[0]
    how = " ".join(f"{key}={best[key]}" for key in table.keys if best[key] != "")
    value = shown_value(goal.key, float(best[goal.key]))
    text = f"Best by {goal.key}: job {rows.index[0]} ({value}) {how}".rstrip()
    console.print(escape(text), soft_wrap=True, highlight=False)
    if ranking.trade_off:
        keys = " and ".join(one.key for one in ranking.trade_off)
        text = f"* no other is better in both {keys}: job {', '.join(ranking.front)}"
        console.print(escape(text), soft_wrap=True, highlight=False)
