"""A picture of the latents that matter: their top images, what they are called and what they drive."""

import pandas as pd
from lightning.pytorch import LightningModule, Trainer

from callbacks.base import Pass, PassCallback
from lightning_sae.report.figures import save_figure
from lightning_sae.report.gallery_picture import draw_gallery
from lightning_sae.tracking.publish import publish_picture, run_dir


class Gallery(PassCallback):
    """Draws `pictures/gallery.png`: a row per latent, with its name and top validation images (or texts).

    The left panel has the latents with the largest attribution (without the Attribution callback: the most
    frequent ones), the right one those that drive a class unexpectedly, where any are known.

    Args:
        rows: latents per panel.
        images: thumbnails per latent, at most the module's `top_n`.
        every: draw after every so many validation passes; the last pass of a fit is always drawn.
    """

    logs = ()

    def __init__(self, rows: int = 12, images: int = 8, every: int = 2) -> None:
        if min(rows, images, every) < 1:
            raise ValueError(f"rows, images and every must be at least 1, got {rows}, {images}, {every}")
        self.rows, self.images, self.every = rows, images, every

    def report(self, pass_: Pass) -> None:
        """Draw the picture."""
        table, image_ids = pass_.latent_table(), pass_.top_ids[:, : self.images].cpu()
        if not pass_.trainer.is_global_zero:
            return
        figure = draw_gallery(_panels(table, self.rows), image_ids, pass_.data.images("val"))
        path = run_dir(pass_.trainer) / "pictures" / "gallery.png"
        save_figure(figure, path, dpi=100)
        publish_picture(pass_.trainer, "pictures/gallery", path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last pass if it was not known to be the last at its time."""
        if self.current is not None and not self.is_turn(self.current, self.every):
            self.report(self.current)


def _panels(table: pd.DataFrame, rows: int) -> dict[str, pd.DataFrame]:
    by = "attribution" if "attribution" in table else "density"
    title = "What drives the scores" if by == "attribution" else "The most frequent latents"
    drives = table.get("attribution_class", "")
    panels = {title: table.nlargest(rows, by).assign(drives=drives)}
    if "unexpected" in table and (table["unexpected"] > 0).any():
        culprits = table[table["unexpected"] > 0].nlargest(rows, "unexpected")
        panels["What drives them unexpectedly"] = culprits.assign(drives=culprits["unexpected_class"])
    return panels
