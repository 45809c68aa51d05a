"""The labels of the latents with thumbnails of their top images, for trackers that can show a table."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.latent_table import latent_table
from callbacks.parts import data_of, is_last_pass, sae_of
from lightning_sae.data import ImageSet
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.tracking.publish import publish_illustrated

CELL = 64  # pixels of a thumbnail


class LabelTable(Callback):
    """Shows `tables/labels`: the columns of `latents.csv` and top images, the named latents first.

    Without a tracker that can show images nothing happens: the run folder has the same in `latents.csv` and
    `pictures/gallery.png`.

    Args:
        rows: latents in the table.
        images: thumbnails per latent, at most the module's `top_n`.
        every: show after every so many validation passes, and at the last step of a fit.
    """

    def __init__(self, rows: int = 50, images: int = 4, every: int = 4) -> None:
        if min(rows, images, every) < 1:
            raise ValueError(f"rows, images and every must be at least 1, got {rows}, {images}, {every}")
        self.rows, self.images, self.every = rows, images, every
        self._passes = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the table when its turn has come."""
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == "fit"
        self._passes += fitting
        if not fitting or self._passes % self.every == 0 or is_last_pass(trainer):
            self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _, image_ids = sae_of(pl_module).top_images.compute()
        table = latent_table(trainer, pl_module)  # every rank: both may synchronise
        by = [key for key in ("named", "attribution", "density") if key in table]
        table = table.sort_values(by, ascending=False, kind="stable").head(self.rows)
        strip = partial(_strip, image_ids[:, : self.images].cpu(), data_of(trainer).images("val"))
        publish_illustrated(trainer, "labels", table, strip)

    def state_dict(self) -> dict[str, int]:
        """How many passes there were."""
        return {"passes": self._passes}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Goes on counting."""
        self._passes = state_dict["passes"]


def _strip(image_ids: Tensor, images: ImageSet, row: "pd.Series[Any]") -> Image.Image:
    """The top images of the latent in a row of the table, side by side."""
    ids: Sequence[int] = image_ids[int(row["latent"])].tolist()
    strip = Image.new("RGB", (CELL * len(ids), CELL), "white")
    for place, image_id in enumerate(ids):
        if image_id >= 0:
            strip.paste(thumbnail(images[image_id], CELL), (place * CELL, 0))
    return strip
