"""The table of runs: what differs between their configs, and the values that matter."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.table import Table

from lightning_sae.compare.differences import differing, value
from lightning_sae.compare.runs import Run
from lightning_sae.tracking.values import Goal
from lightning_sae.trust.control_characters import escape, visible


class Column(NamedTuple):
    """How a logged value is shown: its title and Python's format."""

    title: str
    form: str


SHOWN = {
    "val/fvu": Column("FVU", ".4f"),
    "val/fvu_layer_norm": Column("FVU after layer norm", ".4f"),
    "val/l0": Column("L0", ".1f"),
    "train/dead_fraction": Column("dead", ".1%"),
    "alignment/mean": Column("alignment", ".3f"),
    "alignment/named": Column("named", ".0f"),
    "zero_shot/original": Column("accuracy", ".1%"),
    "zero_shot/spliced": Column("spliced", ".1%"),
    "zero_shot/original_worst": Column("worst group", ".1%"),
    "zero_shot/spliced_worst": Column("worst group, spliced", ".1%"),
    "attribution/unexpected_share": Column("unexpected", ".1%"),
    "faithfulness/act_grad_deletion": Column("deletion", ".3f"),
    "faithfulness/act_grad_insertion": Column("insertion", ".3f"),
}
"""The values that matter, of all that were logged."""


_TERMINAL = (
    "val/fvu",
    "val/l0",
    "alignment/named",
    "zero_shot/original",
    "zero_shot/original_worst",
    "attribution/unexpected_share",
)
"""Those of them that fit into 80 columns."""


class RunTable(NamedTuple):
    """All runs, the best first, unfinished ones last.

    Attributes:
        frame: a row per run by name; `finished`, `missing`, the config keys, all logged values, `folder`.
        keys: the config keys that differ.
        shown: the logged values that matter and that some run has.
    """

    frame: pd.DataFrame
    keys: list[str]
    shown: list[str]


def run_table(runs: Sequence[Run], goal: Goal) -> RunTable:
    """Puts runs into a table.

    Args:
        runs: of `read_runs`.
        goal: orders the rows.

    Raises:
        ValueError: no run has the goal's key; names those that there are.
    """
    keys = differing([run for run in runs if run.config])
    logged = sorted({key for run in runs for key in run.metrics} - {"step", "epoch"})
    if logged and goal.key not in logged:
        raise ValueError(f"no run has logged {goal.key!r}: choose one of {', '.join(logged)}")
    rows = [_row(run, keys) for run in runs]
    shown = [key for key in SHOWN if key in logged]
    others = [key for key in logged or [goal.key] if key not in shown]
    columns = ["finished", *keys, "step", *shown, *others]
    frame = pd.DataFrame(rows, index=pd.Index([run.name for run in runs], name="run"))
    frame = frame.reindex(columns=[*columns, "missing", "folder"])
    frame = frame.sort_values(goal.key, ascending=goal.ascending, kind="stable", na_position="last")
    return RunTable(frame.sort_values("finished", ascending=False, kind="stable"), keys, shown)


def _row(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    made = {key: value(run, key) for key in keys}
    state = {"finished": run.finished, "missing": "; ".join(run.missing), "folder": visible(str(run.folder))}
    return {**made, **run.metrics, **state}


def shown_value(key: str, number: Any) -> str:
    """A value as people read it; "" for NaN.

    Example:
        >>> shown_value("zero_shot/original", 0.5837), shown_value("val/l0", 16), shown_value("a", 0.5)
        ('58.4 %', '16.0', '0.5')
    """
    if not isinstance(number, int | float):
        return str(number)
    form = SHOWN[key].form if key in SHOWN else ".4g"
    return "" if math.isnan(number) else format(number, form).replace("%", " %")


def cells(table: RunTable, starred: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text: name, differing keys, values that matter.

    Args:
        table: of `run_table`.
        starred: names of the runs that are marked.
    """
    header = ["run", *table.keys, *(SHOWN[key].title if key in SHOWN else key for key in table.shown)]
    keys = [*table.keys, *table.shown]
    rows = [
        [f"{name} *" if name in starred else str(name), *(shown_value(key, row[key]) for key in keys)]
        for name, row in zip(table.frame.index, table.frame.to_dict("records"), strict=True)
    ]
    return header, rows


def terminal(table: RunTable, goal: Goal, starred: Sequence[str] = ()) -> Table:
    """The table for the terminal, with fewer values; unfinished runs are dim."""
    wanted = [key for key in table.shown if key in _TERMINAL]
    narrow = table._replace(shown=list(dict.fromkeys([goal.key, *wanted])))
    header, rows = cells(narrow, starred)
    shown = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for place, title in enumerate(header):
        shown.add_column(
            escape(title.replace(" ", "\n")),
            justify="left" if place <= len(table.keys) else "right",
            overflow="fold",
        )
    for row, finished in zip(rows, table.frame["finished"], strict=True):
        shown.add_row(*map(escape, row), style=None if finished else "dim")
    return shown


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A Markdown table; what a cell could break out by is escaped.

    Example:
        >>> print(markdown(["run", "label"], [["0", "a|b <i>"]]))
        | run | label |
        | --- | --- |
        | 0 | a\|b &lt;i> |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)


def markdown_text(text: str) -> str:
    """A text of a user in Markdown: no markup, no second line."""
    for sign, instead in {"&": "&amp;", "<": "&lt;", "|": "\\|", "`": "\\`", "[": "\\[", "\n": " "}.items():
        text = text.replace(sign, instead)
    return text
