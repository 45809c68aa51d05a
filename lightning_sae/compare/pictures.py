"""Pictures of many runs: trade-offs, parallel coordinates, distributions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_sae.compare.table import RunTable
from lightning_sae.compare.variants import Variant
from lightning_sae.report.palette import GREY, INK, LIGHT
from lightning_sae.tracking.values import Goal, column_title, shown_value

ACCENT = "#0969da"
MAX_AXES = 10  # of parallel coordinates; more cannot be read
_RESULTS = ("val/fvu", "val/l0", "alignment/named", "zero_shot/spliced", "attribution/unexpected_share")


_PLATE = {"facecolor": "white", "linewidth": 0, "pad": 1}  # behind words that lines cross


def _words(key: str) -> str:
    """Return a key in words."""
    return f"{column_title(key)} ({key})" if column_title(key) != key else key


def draw_pareto(frame: pd.DataFrame, front: Sequence[bool], goals: tuple[Goal, Goal]) -> Figure:
    """Draw the runs in the plane of two goals; those on the front are marked, joined and named.

    Args:
        frame: a row per run by name, with both keys.
        front: which rows are on the front.
        goals: the axes, horizontal first.
    """
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    x, y = (goal.key for goal in goals)
    marked = frame[list(front)].sort_values(x)
    axes.scatter(frame[x], frame[y], s=36, color=LIGHT, edgecolor=GREY, linewidth=0.6)
    axes.plot(marked[x], marked[y], color=ACCENT, linewidth=1.2, alpha=0.5)
    axes.scatter(marked[x], marked[y], s=56, color=ACCENT, zorder=3, label="no run is better in both")
    for name, row in marked.iterrows():
        place: dict[str, Any] = {"xytext": (7, 5), "textcoords": "offset points", "fontsize": 8, "color": INK}
        axes.annotate(_short(str(name)), (row[x], row[y]), parse_math=False, **place)
    for goal, name in zip(goals, ("x", "y"), strict=True):
        better = "lower" if goal.direction == "min" else "higher"
        getattr(axes, f"set_{name}label")(f"{_words(goal.key)}, {better} is better", parse_math=False)
    axes.legend(frameon=False, loc="best", fontsize=9)
    _bare(axes)
    return figure


def draw_parallel(table: RunTable, goal: Goal) -> Figure:
    """Draw a line per run through what was set (left) and what came out (right); the better, the darker.

    Args:
        table: of `run_table`; runs that lack a value have a gap there.
        goal: colours the lines.
    """
    known = table.frame.columns[table.frame.notna().any()]
    results = [key for key in dict.fromkeys([goal.key, *_RESULTS]) if key in known]
    keys = [*table.keys[: MAX_AXES - len(results)], *results]
    figure = Figure(figsize=(max(7.2, 1.5 * len(keys)), 4.4), layout="constrained")
    axes = figure.subplots()
    places = pd.DataFrame({key: _draw_axis(axes, place, table.frame[key]) for place, key in enumerate(keys)})
    ranks = table.frame[goal.key].rank(ascending=not goal.ascending, pct=True).fillna(0)
    for row, rank in zip(places.to_numpy(), ranks, strict=True):
        colour = colormaps["cividis_r"](0.1 + 0.9 * float(rank))
        axes.plot(
            range(len(keys)), row, color=colour, alpha=0.75, linewidth=1 + 1.5 * (rank == 1), marker="."
        )
    axes.set_xticks(
        range(len(keys)), [_folded(column_title(key)) for key in keys], fontsize=9, parse_math=False
    )
    axes.set(xlim=(-0.4, len(keys) - 0.4), ylim=(-0.08, 1.08), yticks=[])
    axes.spines[:].set_visible(False)
    return figure


def _draw_axis(axes: Axes, place: int, column: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Draw one axis with its ends or its values; return where the runs cross it, in 0..1."""
    numbers = pd.to_numeric(column, errors="coerce")
    texts = column.astype(object).where(column.notna(), "").astype(str)
    known = texts[texts != ""]
    axes.axvline(place, color=LIGHT, linewidth=1, zorder=0)
    if numbers.notna().sum() == len(known):
        low, high = numbers.min(), numbers.max()
        heights = ((numbers - low) / (high - low)) if high > low else numbers * 0 + 0.5
        ends = {0.0: low, 1.0: high} if high > low else {0.5: low}
        ticks = {height: shown_value(str(column.name), float(end)) for height, end in ends.items()}
    else:
        values = sorted(set(known))
        steps = np.linspace(0, 1, len(values)) if len(values) > 1 else np.array([0.5])
        heights = texts.map(dict(zip(values, steps, strict=True)))
        ticks = dict(zip(steps.tolist(), values, strict=True))
    for height, text in ticks.items():
        axes.text(
            place + 0.04,
            height,
            _short(text),
            fontsize=8,
            color=GREY,
            va="center",
            parse_math=False,
            bbox=_PLATE,
        )
    return heights.to_numpy(dtype=float)


def draw_alignment(variants: Sequence[Variant]) -> Figure | None:
    """Draw how well the labels of the latents agree with their images, a distribution per variant.

    Returns:
        The figure, or `None` where no run has labelled its latents.
    """
    columns = [variant.run.table("latents").get("alignment", pd.Series(dtype=float)) for variant in variants]
    known = [(v.name, c.dropna()) for v, c in zip(variants, columns, strict=True) if c.notna().sum() > 1]
    if not known:
        return None
    figure = Figure(figsize=(7.2, 1.4 + 0.8 * len(known)), layout="constrained")
    axes = figure.subplots()
    places = range(len(known), 0, -1)
    parts = axes.violinplot(
        [c for _, c in known], places, orientation="horizontal", widths=0.8, showextrema=False
    )
    for body in parts["bodies"]:  # type: ignore[attr-defined]
        body.set(facecolor=ACCENT, alpha=0.25)
    for place, (_, column) in zip(places, known, strict=True):
        low, middle, high = column.quantile([0.1, 0.5, 0.9])
        axes.plot([low, high], [place, place], color=ACCENT, linewidth=1.5)
        axes.plot(middle, place, "o", color=ACCENT)
    axes.set_yticks(places, [f"{_short(n)}\n{len(c)} latents" for n, c in known], parse_math=False)
    axes.set_xlabel("alignment of a latent with its label; dot and line: median, 10 % to 90 %", color=GREY)
    _bare(axes)
    return figure


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _folded(name: str) -> str:
    """Return a long key on several lines."""
    return name.replace(".", ".\n", 1).replace(", ", ",\n")
