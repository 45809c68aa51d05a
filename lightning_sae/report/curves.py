"""Curves over training as lines in a small frame."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from lightning_sae.report import compact, percent

WIDTH, HEIGHT = 300, 150  # of the frame
POINTS = 300  # of a line; longer ones are thinned
DOTS = 12  # of a line with fewer points each is marked
PANELS: dict[str, dict[str, str]] = {
    "Training loss": {"train/loss": ""},
    "FVU": {"val/fvu": ""},
    "L0": {"val/l0": ""},
    "Dead latents": {"val/dead_fraction": ""},
    "Alignment of the labels": {"alignment/p90": "p90", "alignment/mean": "mean", "alignment/p10": "p10"},
    "Latents with a label to rely on": {"alignment/named_share": ""},
    "Attribution": {"attribution/positive_mass": "positive", "attribution/negative_mass": "negative"},
    "Unexpected share": {"attribution/unexpected_share": ""},
    "Accuracy": {"zero_shot/original": "CLIP", "zero_shot/spliced": "with the autoencoder"},
    "Accuracy of the worst group": {
        "zero_shot/original_worst": "CLIP",
        "zero_shot/spliced_worst": "with the autoencoder",
    },
}
_SHARES = ("val/dead_fraction", "alignment/named_share", "attribution/unexpected_share", "zero_shot/")


def curves(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the panels for which `metrics.csv` has values, in SVG's units."""
    panels = []
    for title, keys in PANELS.items():
        lines = {name: _line(table, key) for key, name in keys.items() if key in table}
        if any(len(line) for line in lines.values()):
            panels.append(_panel(title, lines, next(iter(keys)).startswith(_SHARES)))
    return panels


def _line(table: pd.DataFrame, key: str) -> list[tuple[float, float]]:
    """Return the steps and values of a key, thinned out, the last one kept."""
    line = table[["step", key]].apply(pd.to_numeric, errors="coerce").dropna()
    step = -(-len(line) // POINTS) or 1
    thinned = line.iloc[(len(line) - 1) % step :: step] if len(line) else line  # the last one stays
    return [(float(x), float(y)) for x, y in thinned.to_numpy()]


def _panel(title: str, lines: dict[str, list[tuple[float, float]]], shares: bool) -> dict[str, Any]:
    steps = [x for line in lines.values() for x, _ in line]
    values = [y for line in lines.values() for _, y in line]
    right = max(*steps, 1.0)
    heights = _ticks(*_apart(min(values), max(values)), 4)
    low, high = heights[0], heights[-1]
    said = _form(heights[1] - low, shares)

    def place(x: float, y: float) -> tuple[str, str]:
        return f"{WIDTH * x / right:.1f}", f"{HEIGHT * (high - y) / (high - low):.1f}"

    return {
        "title": title,
        "y": [{"at": place(0, y)[1], "text": said(y)} for y in heights],
        "x": [
            {"at": place(x, low)[0], "text": f"{x:,.0f}".replace(",", " ")}
            for x in _ticks(0, right, 4)
            if 0 <= x <= right
        ],
        "lines": [
            {
                "name": name,
                "last": percent(line[-1][1], 1) if shares else compact(line[-1][1]),
                "points": [place(*point) for point in line],
                "dots": len(line) <= DOTS,
            }
            for name, line in lines.items()
            if line
        ],
    }


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return limits that differ, even where all values are the same."""
    size = max(abs(low), abs(high))
    if high - low > 1e-3 * size:
        return low, high
    gap = 0.1 * size or 0.01
    return (low if low == 0 else low - gap), high + gap


def _form(step: float, shares: bool) -> Callable[[float], str]:
    """Return the function that writes a tick, with as many decimals as tell the ticks apart."""
    decimals = max(0, 1 - math.floor(math.log10(step)) - (2 if shares else 0))
    fixed = [f"{step * 100 if shares else step:.{d}f}" for d in range(decimals + 1)]
    digits = next(d for d, text in enumerate(fixed) if d == decimals or float(text) == float(fixed[-1]))
    if shares:
        return lambda y: percent(y + 0.0, digits)
    return lambda y: f"{y + 0.0:.{digits}f}".replace("-", "−")


def _ticks(low: float, high: float, most: int) -> Sequence[float]:
    """Return round numbers that cover the range between two numbers."""
    ticks = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks]
