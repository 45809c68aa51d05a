"""The picture of the latents that matter: their names, what they drive, and their top images."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lightning_sae.concepts.naming import LatentName
from lightning_sae.data import ImageSet
from lightning_sae.report.latent_name import write_name
from lightning_sae.report.palette import GREY, INK, RED
from lightning_sae.report.thumbnails import thumbnail

CELL = 64  # pixels of a thumbnail
GAP = 6
TEXT_WIDTH = 330


def draw_gallery(panels: dict[str, pd.DataFrame], image_ids: Tensor, images: ImageSet) -> Figure:
    """Draw panels of latents side by side.

    Args:
        panels: title -> rows of the latent table; `latent` and `density` are needed, and other known facts
            are written too.
        image_ids: `[d_sae, n]` top images of every latent, -1 where there is none.
        images: the split that the ids belong to.

    Returns:
        The figure, one pixel of a thumbnail per 1/100 inch.
    """
    rows, n = max(len(table) for table in panels.values()), image_ids.shape[1]
    width, height = TEXT_WIDTH + n * (CELL + GAP), max(rows, 1) * (CELL + GAP)
    figure = Figure(figsize=(len(panels) * width / 100, (height + 50) / 100))
    for i, (title, table) in enumerate(panels.items()):
        axes = figure.add_axes((i / len(panels), 0, 1 / len(panels), height / (height + 50)))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        axes.text(12, -16, title, fontsize=13, weight="bold", color=INK)
        for y, (_, row) in enumerate(table.iterrows()):
            _draw_row(axes, y * (CELL + GAP), row, image_ids[int(row["latent"])].tolist(), images)
    return figure


def _draw_row(axes: Axes, top: float, row: pd.Series, ids: Sequence[int], images: ImageSet) -> None:
    unexpected = row.get("unexpected", 0) > 0 and row["unexpected_class"] == row["drives"]
    drives = f"→  {row['drives']}" if row.get("drives") else ""
    write_name(axes, LatentName.of(row), 12, top + 26, RED if unexpected else INK, after=drives)
    axes.text(12, top + 47, _details(row), fontsize=8, color=GREY)
    for i, image_id in enumerate(ids):
        if image_id >= 0:
            left = TEXT_WIDTH + i * (CELL + GAP)
            axes.imshow(
                thumbnail(images[image_id], CELL), extent=(left, left + CELL, top + CELL, top), aspect="auto"
            )


def _details(row: pd.Series) -> str:
    """Return the text below a latent's name: the facts known about it."""
    details = [f"latent {row['latent']}", f"fires on {row['density']:.1%}"]
    if "alignment" in row:
        details.append(f"alignment {row['alignment']:.2f}")
    return "  ·  ".join(details)
