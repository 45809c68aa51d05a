"""A picture of the latents that matter: their top images, what they are called and what they drive."""

from collections.abc import Sequence

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.latent_table import latent_table
from callbacks.parts import data_of, sae_of
from lightning_sae.concepts.naming import LatentName
from lightning_sae.data import ImageSet
from lightning_sae.report.figures import save_figure
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.tracking.publish import publish_picture, run_dir

CELL = 64  # pixels of a thumbnail
GAP = 6
TEXT_WIDTH = 330
INK, GREY, RED = "#1f2328", "#6e7781", "#c0392b"


class Gallery(Callback):
    """Draws `pictures/gallery.png`: a row per latent, with its name and top validation images (or texts).

    The left panel has the latents with the largest attribution (without the Attribution callback: the most
    frequent ones), the right one those that drive a class unexpectedly, where any are known.

    Args:
        rows: latents per panel.
        images: thumbnails per latent, at most the module's `top_n`.
        every: draw after every so many validation passes; the last pass of a fit is always drawn.
    """

    def __init__(self, rows: int = 12, images: int = 8, every: int = 2) -> None:
        if min(rows, images, every) < 1:
            raise ValueError(f"rows, images and every must be at least 1, got {rows}, {images}, {every}")
        self.rows, self.images, self.every = rows, images, every
        self._passes = 0
        self._stale = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the picture when its turn has come."""
        if trainer.sanity_checking:
            return
        self._passes += 1
        self._stale = self._passes % self.every != 0
        if not self._stale or trainer.state.fn == "validate":
            self._draw(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last pass if it was left out."""
        if self._stale:
            self._draw(trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        """How many passes there were."""
        return {"passes": self._passes}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self._passes = state_dict["passes"]

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _, image_ids = sae_of(pl_module).top_images.compute()
        table = latent_table(trainer, pl_module)
        if not trainer.is_global_zero:  # only now: both may synchronise the ranks
            return
        images = data_of(trainer).images("val")
        figure = draw_gallery(_panels(table, self.rows), image_ids[:, : self.images].cpu(), images)
        path = run_dir(trainer) / "pictures" / "gallery.png"
        save_figure(figure, path, dpi=100)
        publish_picture(trainer, "pictures/gallery", path)


def _panels(table: pd.DataFrame, rows: int) -> dict[str, pd.DataFrame]:
    by = "attribution" if "attribution" in table else "density"
    title = "What drives the scores" if by == "attribution" else "The most frequent latents"
    drives = table.get("attribution_class", "")
    panels = {title: table.nlargest(rows, by).assign(drives=drives)}
    if "unexpected" in table and (table["unexpected"] > 0).any():
        culprits = table[table["unexpected"] > 0].nlargest(rows, "unexpected")
        panels["What drives them unexpectedly"] = culprits.assign(drives=culprits["unexpected_class"])
    return panels


def draw_gallery(panels: dict[str, pd.DataFrame], image_ids: Tensor, images: ImageSet) -> Figure:
    """Draws panels of latents side by side.

    Args:
        panels: title -> rows of the latent table; `latent` and `density` are needed, what else is there is
            written beside.
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
    LatentName.of(row).draw(axes, 12, top + 26, RED if unexpected else INK, after=drives)
    axes.text(12, top + 47, _details(row), fontsize=8, color=GREY)
    for i, image_id in enumerate(ids):
        if image_id >= 0:
            left = TEXT_WIDTH + i * (CELL + GAP)
            axes.imshow(
                thumbnail(images[image_id], CELL), extent=(left, left + CELL, top + CELL, top), aspect="auto"
            )


def _details(row: pd.Series) -> str:
    """What is known about a latent, below its name."""
    details = [f"latent {row['latent']}", f"fires on {row['density']:.1%}"]
    if "alignment" in row:
        details.append(f"alignment {row['alignment']:.2f}")
    return "  ·  ".join(details)
