"""The table of runs: what differs between their configs, and the values that matter."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.baselines.shown import LEGEND, SILENT
from lightning_sae.compare.differences import differing, is_part, value
from lightning_sae.compare.runs import Run
from lightning_sae.tracking.values import VALUES, Goal, column_title, logged_value, shown_value
from lightning_sae.trust.control_characters import escape, visible


class RunTable(NamedTuple):
    """All runs, the best first, unfinished ones last.

    Attributes:
        frame: a row per run by name; `finished`, `missing`, the config keys, all logged values, `folder`.
        keys: the config keys that differ.
        shown: the logged values that matter and that some run has.
        silent: run -> the logged values that do not tell it from a dictionary that learned nothing.
    """

    frame: pd.DataFrame
    keys: list[str]
    shown: list[str]
    silent: dict[str, frozenset[str]]

    @property
    def legend(self) -> str:
        """The meaning of the mark in the cells; "" if no cell is marked."""
        rows = self.frame[self.shown].notna()
        marked = (rows.loc[name, key] for name in rows.index for key in self.silent[name] & {*self.shown})
        return LEGEND if any(marked) else ""

    def narrow(self, goal: Goal) -> "RunTable":
        """Return the table for 80 columns: with the value that orders it, and those marked as `narrow`."""
        wanted = [key for key in self.shown if logged_value(key).narrow]
        return self._replace(shown=list(dict.fromkeys([goal.key, *wanted])))


def run_table(runs: Sequence[Run], goal: Goal, by: str = "") -> RunTable:
    """Put runs into a table.

    Args:
        runs: of `read_runs`.
        goal: orders the rows.
        by: part of the config that makes a variant: its keys come before the others.

    Raises:
        ValueError: no run has the goal's key; names those that there are.
    """
    keys = sorted(differing([run for run in runs if run.recipe]), key=lambda key: not is_part(key, by))
    logged = sorted({key for run in runs for key in run.metrics} - {"step", "epoch"})
    if logged and goal.key not in logged:
        raise ValueError(f"no run has logged {goal.key!r}: choose one of {', '.join(logged)}")
    rows = [_row(run, keys) for run in runs]
    shown = [key for key, entry in VALUES.items() if entry.title and key in logged]
    others = [key for key in logged or [goal.key] if key not in shown]
    columns = ["finished", *keys, "step", *shown, *others]
    frame = pd.DataFrame(rows, index=pd.Index([run.name for run in runs], name="run"))
    frame = frame.reindex(columns=[*columns, "missing", "folder"])
    frame = frame.sort_values(goal.key, ascending=goal.ascending, kind="stable", na_position="last")
    silent = {run.name: run.baselines.silent_keys for run in runs}
    return RunTable(frame.sort_values("finished", ascending=False, kind="stable"), keys, shown, silent)


def _row(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    made = {key: value(run.recipe, key) for key in keys}
    state = {"finished": run.finished, "missing": "; ".join(run.missing), "folder": visible(str(run.folder))}
    return {**made, **run.metrics, **state}


def cells(table: RunTable, starred: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows as text: name, differing keys, values that matter, `≈` if they do not tell.

    Args:
        table: of `run_table`.
        starred: names of the runs that are marked.
    """
    header = ["run", *table.keys, *map(column_title, table.shown)]
    rows = [
        [
            f"{name} *" if name in starred else str(name),
            *(shown_value(key, row[key]) for key in table.keys),
            *(_marked(shown_value(key, row[key]), key in table.silent[name]) for key in table.shown),
        ]
        for name, row in zip(table.frame.index, table.frame.to_dict("records"), strict=True)
    ]
    return header, rows


def _marked(text: str, silent: bool) -> str:
    return f"{text} {SILENT}" if silent and text else text


def print_table(console: Console, table: RunTable, goal: Goal, starred: Sequence[str] = ()) -> None:
    """Print the table, with fewer values, and what its mark means; unfinished runs are dim."""
    narrow = table.narrow(goal)
    console.print(terminal(narrow, starred))
    if narrow.legend:
        console.print(narrow.legend, style="dim")


def terminal(table: RunTable, starred: Sequence[str] = ()) -> Table:
    """Return a table as it is printed; unfinished runs are dim."""
    header, rows = cells(table, starred)
    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for place, word in enumerate(header):
        shown.add_column(
            escape(word).replace(" ", "\n"),
            justify="left" if place <= len(table.keys) else "right",
            overflow="fold",
        )
    for row, finished in zip(rows, table.frame["finished"], strict=True):
        shown.add_row(*map(escape, row), style=None if finished else "dim")
    return shown


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a Markdown table; what a cell could break out by is escaped.

    Example:
        >>> print(markdown(["run", "label"], [["0", "a|b <i>"]]))
        | run | label |
        | --- | --- |
        | 0 | a\|b &lt;i> |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)


def markdown_text(text: str) -> str:
    """Return a text of a user in Markdown: no markup, no second line."""
    for sign, instead in {"&": "&amp;", "<": "&lt;", "|": "\\|", "`": "\\`", "[": "\\[", "\n": " "}.items():
        text = text.replace(sign, instead)
    return text
