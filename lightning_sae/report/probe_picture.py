"""The picture of probes beside prompts, over the bias of the images that the probes were fitted on."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_sae.report.palette import GREY, INK, LIGHT, SERIES

PROBE, PROMPT = SERIES[:2]
PANELS = {
    "accuracy": ("Accuracy", "higher is better"),
    "worst_group": ("Accuracy of the worst group", "higher is better"),
    "paired_unexpected_share": ("Unexpected share of the paired classes", "lower is better"),
    "culprit_share": ("Share of what tells the paired value", "lower is better"),
}


def draw_comparison(table: pd.DataFrame, factor: str) -> Figure:
    """Draw a panel per measure: the probes as a line over their bias, the prompts as a level.

    Args:
        table: table of the callback `probe_vs_prompt`; the row without a `share` is that of the prompts.
        factor: factor with which the classes are associated.
    """
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    probes, prompts = table[table["share"].notna()], table[table["share"].isna()]
    for axes, (name, (title, better)) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        axes.plot(probes["share"], probes[name], "o-", color=PROBE, linewidth=1.8, label="linear probes")
        axes.axhline(float(prompts[name].iloc[0]), color=PROMPT, linewidth=1.8, label="text prompts")
        axes.set_title(f"{title}: {better}", loc="left", color=INK, weight="bold", fontsize=11)
        axes.set_xlabel(
            f"share of a paired class's probe images with its {factor}", color=GREY, parse_math=False
        )
        _style(axes)
    figure.axes[0].legend(frameon=False)
    return figure


def _style(axes: Axes) -> None:
    axes.set_ylim(-0.02, 1.02)  # a line at 0 or 1 is seen
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="y", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)
