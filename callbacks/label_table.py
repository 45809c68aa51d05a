"""The labels of the latents with thumbnails of their top images, for trackers that can show a table."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.data import ImageSet
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.tracking.publish import publish_illustrated

CELL = 64  # pixels of a thumbnail


class LabelTable(PassCallback):
    """Shows `tables/labels`: the columns of `latents.csv` and top images, the named latents first.

    Without a tracker that can show images nothing happens: the run folder has the same in `latents.csv` and
    `pictures/gallery.png`.

    Args:
        rows: latents in the table.
        images: thumbnails per latent, at most the module's `top_n`.
        every: show after every so many validation passes; 0: after the last one of a fit, which always shows.
    """

    logs = ()

    def __init__(self, rows: int = 50, images: int = 4, every: int = 0) -> None:
        if min(rows, images) < 1 or every < 0:
            raise ValueError(
                f"rows and images must be at least 1 and every at least 0, got {rows}, {images}, {every}"
            )
        self.rows, self.images, self.every = rows, images, every

    def report(self, pass_: Pass) -> None:
        """Show the table."""
        table, image_ids = pass_.latent_table(), pass_.top_ids[:, : self.images].cpu()
        by = [key for key in ("named", "attribution", "density") if key in table]
        table = table.sort_values(by, ascending=False, kind="stable").head(self.rows)
        strip = partial(_strip, image_ids, pass_.data.images("val"))
        publish_illustrated(pass_.trainer, "labels", table, strip)


def _strip(image_ids: Tensor, images: ImageSet, row: "pd.Series[Any]") -> Image.Image:
    """Return the top images of the latent in a row of the table, side by side."""
    ids: Sequence[int] = image_ids[int(row["latent"])].tolist()
    strip = Image.new("RGB", (CELL * len(ids), CELL), "white")
    for place, image_id in enumerate(ids):
        if image_id >= 0:
            strip.paste(thumbnail(images[image_id], CELL), (place * CELL, 0))
    return strip
