"""The picture of steering: success against damage, for latents and for the directions beside them."""

import numpy as np
from matplotlib.figure import Figure

from lightning_sae.report.palette import GREY, INK, LIGHT, SERIES
from lightning_sae.steering.study import METHODS, Study

TITLES = {
    "latent": "strongest latent",
    "probe": "probe's direction",
    "text": "text's direction",
    "means": "difference of means",
    "random": "random direction",
}
MARKED = 1.0  # the strength that gets a dot


def draw_study(found: Study, most: float) -> Figure:
    """Draw mean success against mean damage over the values, and the area of each value, method by method.

    Args:
        found: the steered values.
        most: damage up to which the areas go.
    """
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    curves, areas = figure.subplots(1, 2, width_ratios=(1.25, 1))
    methods = [m for m in METHODS if any(steered.method == m for steered in found.methods)]
    for k, method in enumerate(methods):
        mine = [steered for steered in found.methods if steered.method == method]
        means = np.array([steered.curve.means()[:2] for steered in mine]).mean(0)
        strengths = mine[0].curve.strengths
        label = f"{TITLES[method]}  {np.mean([steered.area.mean for steered in mine]):.2f}"
        curves.plot(means[1], means[0], color=SERIES[k], linewidth=1.8, label=label)
        one = int(np.abs(strengths - MARKED).argmin())
        curves.plot(means[1, one], means[0, one], "o", color=SERIES[k], markersize=5)
        spread = np.linspace(-0.3, 0.3, len(mine)) if len(mine) > 1 else np.zeros(1)
        shown = [steered.area.mean for steered in mine]
        areas.plot(k + spread, sorted(shown), "o", color=SERIES[k], markersize=3, alpha=0.8)
    curves.axvspan(0, most, color=LIGHT, alpha=0.5, linewidth=0, zorder=0)
    curves.set_xlabel("damage: share of what else is read off the images that is lost", color=GREY)
    curves.set_ylabel("success: share of images that are as asked", color=GREY)
    curves.set_title("Steering, mean over the values (dot: strength 1)", loc="left", color=INK, weight="bold")
    curves.legend(
        title=f"area up to a damage of {most:.0%}",
        frameon=False,
        fontsize=9,
        title_fontsize=9,
        alignment="left",
        loc="lower right",
    )
    curves.set(ylim=(-0.02, 1.02), xlim=(0, None))
    areas.set_xticks(range(len(methods)), [TITLES[m].replace(" ", "\n", 1) for m in methods], fontsize=8)
    areas.set(ylim=(-0.02, 1.02))
    areas.set_title("Area of each value", loc="left", color=INK, weight="bold")
    for axes in (curves, areas):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=GREY)
    return figure
