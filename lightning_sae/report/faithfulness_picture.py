"""The picture of faithfulness: what happens to the score as latents are removed, and put back."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_sae.attribution.faithfulness import Evidence
from lightning_sae.metrics import Interval, interval
from lightning_sae.report.palette import GREY, INK, LIGHT, SERIES


def draw_curves(evidence: Evidence, table: pd.DataFrame, confidence: float = 0.95) -> Figure:
    """Draw the mean curves with bootstrap bands, deletion on the left and insertion on the right.

    Args:
        evidence: evidence of `measure`.
        table: the evidence's `faithfulness_table`, a row per method.
        confidence: confidence of the bands.
    """
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    kinds = {"deletion": ("lower", "removed"), "insertion": ("higher", "put back")}
    for axes, (kind, (better, done)), samples in zip(panels, kinds.items(), evidence.effects(), strict=True):
        bands = interval(samples, evidence.span, confidence, resamples=300)
        _draw_panel(axes, evidence.fractions.mean(0), bands, table, kind, best_first=better == "higher")
        axes.set_title(f"{kind.capitalize()}: {better} is better", loc="left", color=INK, weight="bold")
        axes.set_xlabel(f"share of an image's active latents {done}, highest value first", color=GREY)
    panels[0].set_ylabel("score  (1: as it is, 0: without its active latents)", color=GREY)
    return figure


def _draw_panel(
    axes: Axes, fractions: Tensor, bands: Interval, table: pd.DataFrame, kind: str, best_first: bool
) -> None:
    order = table[kind].sort_values(ascending=not best_first).index
    for k in order:
        row, colour = table.loc[k], SERIES[k % len(SERIES)]
        low, high = row[f"{kind}_low"], row[f"{kind}_high"]
        label = f"{row['method'].replace('_', ' ')}  {row[kind]:.2f}  [{low:.2f}, {high:.2f}]"
        axes.plot(fractions, bands.mean[k], color=colour, linewidth=1.8, label=label)
        axes.fill_between(fractions, bands.low[k], bands.high[k], color=colour, alpha=0.12, linewidth=0)
    axes.axhline(0, color=LIGHT, linewidth=1, zorder=0)
    axes.axhline(1, color=LIGHT, linewidth=1, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)
    axes.set_xlim(0, 1)
    axes.legend(
        title="area under the mean curve, with its interval, the best first",
        loc="upper left",
        bbox_to_anchor=(0, -0.12),
        ncols=2,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        alignment="left",
    )
