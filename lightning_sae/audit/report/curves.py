"""Curves over training as lines in a small frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from lightning_sae.pages import compact, percent

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


def curves(folder: Path) -> list[dict[str, Any]]:
    """The panels whose values `metrics.csv` has, in SVG's units; none without the file."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    panels = []
    for title, keys in PANELS.items():
        lines = {name: _line(table, key) for key, name in keys.items() if key in table}
        if any(len(line) for line in lines.values()):
            panels.append(_panel(title, lines, next(iter(keys)).startswith(_SHARES)))
    return panels


def _line(table: pd.DataFrame, key: str) -> list[tuple[float, float]]:
    """Steps and values."""
    line = table[["step", key]].apply(pd.to_numeric, errors="coerce").dropna()
    step = -(-len(line) // POINTS) or 1
    thinned = line.iloc[(len(line) - 1) % step :: step] if len(line) else line  # the last one stays
    return [(float(x), float(y)) for x, y in thinned.to_numpy()]


def _panel(title: str, lines: dict[str, list[tuple[float, float]]], shares: bool) -> dict[str, Any]:
    said = percent if shares else compact
    steps = [x for line in lines.values() for x, _ in line]
    values = [y for line in lines.values() for _, y in line]
    left, right = min(steps), max(max(steps), min(steps) + 1)
    heights = _ticks(min(values), max(values), 4)
    low, high = heights[0], heights[-1]

    def place(x: float, y: float) -> tuple[str, str]:
        return f"{WIDTH * (x - left) / (right - left):.1f}", f"{HEIGHT * (high - y) / (high - low):.1f}"

    return {
        "title": title,
        "y": [{"at": place(left, y)[1], "text": said(y)} for y in heights],
        "x": [
            {"at": place(x, low)[0], "text": f"{x:,.0f}".replace(",", " ")}
            for x in _ticks(left, right, 3)
            if left <= x <= right
        ],
        "lines": [
            {
                "name": name,
                "last": said(line[-1][1]),
                "points": [place(*point) for point in line],
                "dots": len(line) <= DOTS,
            }
            for name, line in lines.items()
            if line
        ],
    }


def _ticks(low: float, high: float, most: int) -> Sequence[float]:
    """Round numbers around two others."""
    ticks: list[float] = MaxNLocator(most).tick_values(low, high).tolist()
    return ticks
