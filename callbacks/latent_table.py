"""One table of all latents, `latents.csv`."""

from pathlib import Path

import pandas as pd

from callbacks.base import Pass, PassCallback
from lightning_sae.metrics.top_images import id_texts
from lightning_sae.runs.layers import layer_folder
from lightning_sae.tracking.publish import publish_table
from lightning_sae.training.trained_layer import TrainedLayer


class LatentTable(PassCallback):
    """Writes `latents.csv`, a row per latent that fired in the validation pass, after each pass.

    Its last column, `top_images`, has the ids of the top validation images, the largest activation first. A
    callback that is switched off only leaves out its columns. No other callback writes this file. Latents of
    earlier hook points are in `layers/NAME/latents.csv`, by density, without what callbacks find of the run's
    own.

    Args:
        sort_by: column that orders the rows, largest first; without that column, by density.
    """

    logs = ()

    def __init__(self, sort_by: str = "attribution") -> None:
        self.sort_by = sort_by

    def report(self, pass_: Pass) -> None:
        """Merge the columns and write the table."""
        table = pass_.latent_table()
        table["top_images"] = id_texts(pass_.top_ids[table["latent"].tolist()])
        by = self.sort_by if self.sort_by in table else "density"
        publish_table(pass_.trainer, "latents", table.sort_values(by, ascending=False, kind="stable"))
        for layer in pass_.module.layers[:-1]:
            key = layer_folder(Path(), layer.name) / "latents"
            publish_table(pass_.trainer, key.as_posix(), _measured(layer))


def _measured(layer: TrainedLayer) -> pd.DataFrame:
    """Return density and top images of each latent that fired, the most frequent first."""
    density, ids = layer.metrics.firing.compute(), layer.metrics.top_images.compute()[1]
    columns = {"latent": range(len(density)), "density": density.tolist(), "top_images": id_texts(ids)}
    table = pd.DataFrame(columns)
    return table[table["density"] > 0].sort_values("density", ascending=False, kind="stable")
