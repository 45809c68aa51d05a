"""The picture of responses: values of factors against the latents that respond to them most."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from lightning_sae.concepts.naming import LatentName
from lightning_sae.pairs.strongest import Strongest
from lightning_sae.report.palette import GREY, INK, LIGHT, LOWERS, RAISES

MOST = 60  # values that are drawn, those with the largest responses
CELL = 0.19  # inches
COLOURS = LinearSegmentedColormap.from_list("responses", [LOWERS, "white", RAISES])


def draw_responses(found: Strongest, names: Sequence[LatentName]) -> Figure:
    """Draw the responses of the strongest latent of each value to all values.

    What responds to its own value alone makes a diagonal; a column with several marks does not tell its
    values apart, and a mark outside of the block of its factor is a side effect.

    Args:
        found: the latents, and their responses.
        names: of all latents; none for numbers.
    """
    first = found.latents[:, 0]
    size = np.where(first >= 0, found.measured.response[np.arange(len(first)), first], -np.inf)
    order = np.argsort(-size, kind="stable")
    shown = np.sort(order[first[order] >= 0][:MOST])
    columns = list(dict.fromkeys(first[shown].tolist()))
    matrix = found.measured.response[np.ix_(shown, columns)]
    height, width = CELL * len(shown), CELL * len(columns)
    figure = Figure(figsize=(width + 4.2, height + 3.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap=COLOURS, vmin=-1, vmax=1, aspect="equal", interpolation="none")
    values = [found.values[v] for v in shown]
    _name_axes(axes, [str(value) for value in values], [_called(j, names) for j in columns])
    factors = [value.factor for value in values]
    for edge in np.flatnonzero(pd.Series(factors).ne(pd.Series(factors).shift()))[1:]:
        axes.axhline(edge - 0.5, color=GREY, linewidth=0.8)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 2.4 / height), aspect=14, pad=0.02, extend="both")
    bar.set_label("response (1: silent to strongly active)", color=GREY, fontsize=8)
    bar.ax.tick_params(labelsize=7, colors=GREY)
    bar.outline.set_edgecolor(LIGHT)
    axes.set_title("What comes, and which latents respond", loc="left", color=INK, weight="bold", fontsize=11)
    return figure


def _name_axes(axes: Axes, values: list[str], latents: list[str]) -> None:
    small: dict[str, Any] = {"fontsize": 7, "color": INK, "parse_math": False}
    axes.set_yticks(range(len(values)), values, **small)
    axes.set_xticks(range(len(latents)), latents, rotation=90, **small)
    axes.set_xlabel("the latent that responds most to each value", color=GREY, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(latents) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(values) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LIGHT, linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_color(LIGHT)


def _called(latent: int, names: Sequence[LatentName]) -> str:
    return f"{names[latent].or_number(latent)}  {latent}" if names else str(latent)
