"""The picture of an explanation: the image, its heatmaps, and the images that each latent stands for."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from lightning_sae.clip.sight import as_clip_sees, token_grid
from lightning_sae.concepts.naming import LatentName
from lightning_sae.explain.explanation import PromptExplanation
from lightning_sae.report.latent_name import write_name
from lightning_sae.report.palette import GREY, INK, LOWERS, RAISES, RED
from lightning_sae.runs.folder import RunFolder

CELL, GAP, BIG = 64, 6, 200  # pixels: a thumbnail, the space between two, the image itself
BELOW = 50  # under the image: its score, and the masses of the latents
MARGIN, TEXT, BAR, HEAD = 20, 320, 120, 44  # left of all, a latent's words, its bar, a prompt's title
EXAMPLES = 6
LEGEND = (
    "orange raises the score, purple lowers it; without: change of the score when the latent is removed; "
    "red: raises it, and means the prompt no better than random images"
)
SIGNS = "PuOr_r"  # orange and purple


def draw_explanation(
    run: RunFolder, image: Image.Image, explanations: list[PromptExplanation], output: str
) -> Figure:
    """Return a figure with a block per prompt.

    A block has the image as CLIP sees it, then a row per latent with its top validation images. Where the
    tokens are places in the image there are heatmaps: orange raises the score, purple lowers it, and the
    latents of a prompt share one scale. A class token stands for the whole image and has no heatmap.

    Returns:
        The figure, 1/100 inch a pixel.
    """
    shape = token_grid(run.data.clip, explanations[0].tokens.shape[1])
    left = MARGIN + BIG + 2 * GAP
    width = left + (CELL + 2 * GAP) * (shape is not None) + TEXT + BAR + EXAMPLES * (CELL + GAP) + MARGIN
    beside = (BIG + BELOW) * (1 if shape is None else 2)
    heights = [HEAD + max(len(e.drivers) * (CELL + GAP), beside) + MARGIN for e in explanations]
    height = sum(heights) + MARGIN
    figure = Figure(figsize=(width / 100, height / 100))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    picture = as_clip_sees(run.data.clip, image)
    for block, explanation in enumerate(explanations):
        _draw_block(axes, sum(heights[:block]), run, picture, explanation, shape, output)
    axes.text(MARGIN, height - MARGIN, LEGEND, fontsize=8, color=GREY)
    return figure


def _draw_block(
    axes: Axes,
    top: float,
    run: RunFolder,
    picture: Image.Image,
    explanation: PromptExplanation,
    shape: tuple[int, int] | None,
    output: str,
) -> None:
    axes.text(MARGIN, top + 28, explanation.prompt, fontsize=14, weight="bold", color=INK, parse_math=False)
    signs = f"latents: {explanation.positive:+.3g} {explanation.negative:+.3g}"
    score = f"{output} {explanation.score:.3g}"
    top += HEAD
    for line, text in enumerate((score, signs)):
        axes.text(MARGIN, top + BIG + 18 + 18 * line, text, fontsize=9, color=GREY)
    _show(axes, picture, MARGIN, top, BIG)
    if shape is not None:
        _show_places(axes, picture, MARGIN, top + BIG + BELOW, BIG, places(explanation.tokens[:1], shape)[0])
        maps = places(explanation.tokens[1:], shape)
    longest = float(explanation.drivers["attribution"].abs().max()) or 1.0
    for place, row in enumerate(explanation.drivers.to_dict("records")):
        x, y = MARGIN + BIG + 2 * GAP, top + place * (CELL + GAP)
        if shape is not None:
            _show_places(axes, picture, x, y, CELL, maps[place])
            x += CELL + 2 * GAP
        _draw_latent(axes, x, y, row, longest)
        for i, image_id in enumerate(run.top_images(row["latent"])[:EXAMPLES]):
            example = ImageOps.fit(run.data.images("val")[image_id], (CELL, CELL), Image.Resampling.LANCZOS)
            _show(axes, example, x + TEXT + BAR + i * (CELL + GAP), y, CELL)


def _draw_latent(axes: Axes, x: float, y: float, row: Mapping[Hashable, Any], longest: float) -> None:
    """Draw the words and the bar of a latent."""
    details = (
        f"latent {row['latent']}  ·  alignment {row['alignment']:.2f}, "
        f"with the prompt {row['prompt_alignment']:.2f}"
    )
    write_name(axes, LatentName.of(row), x, y + 24, RED if row["unexpected"] else INK)
    axes.text(x, y + 44, details, fontsize=8, color=GREY)
    middle, length = x + TEXT + BAR / 2 - GAP, (BAR / 2 - 2 * GAP) * row["attribution"] / longest
    axes.barh(y + 24, length, height=12, left=middle, color=RAISES if length > 0 else LOWERS)
    axes.plot([middle, middle], [y + 14, y + 34], color=GREY, linewidth=0.8)
    numbers = f"{row['attribution']:+.2g}, without {row['effect']:+.2g}"
    axes.text(middle, y + 46, numbers, fontsize=7, color=GREY, ha="center")


def places(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the tokens `[m, t]` as maps `[m, rows, columns]`, all divided by the largest absolute value."""
    maps = tokens[:, -shape[0] * shape[1] :].reshape(-1, *shape)
    largest: Tensor = maps.abs().max()
    return maps / largest.clamp_min(torch.finfo(maps.dtype).tiny)


def _show(axes: Axes, picture: Image.Image, x: float, y: float, size: float) -> None:
    axes.imshow(picture, extent=(x, x + size, y + size, y), aspect="auto")


def _show_places(axes: Axes, picture: Image.Image, x: float, y: float, size: float, values: Tensor) -> None:
    """Draw a picture in grey and its places' values in -1..1 over it, larger ones less transparent."""
    extent = (x, x + size, y + size, y)
    axes.imshow(picture.convert("L"), extent=extent, aspect="auto", cmap="gray", vmin=-128, vmax=255)
    strength = values.abs().sqrt().numpy()
    axes.imshow(values.numpy(), extent=extent, aspect="auto", cmap=SIGNS, vmin=-1, vmax=1, alpha=strength)
