"""One table of all latents, `latents.csv`."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.parts import callbacks_of, id_texts, sae_of
from lightning_sae.tracking.publish import publish_table


def latent_table(trainer: Trainer, pl_module: LightningModule) -> pd.DataFrame:
    """What all callbacks know about each latent that fired in the last validation pass.

    The columns are `latent`, `density` and those of every callback that has `latent_columns()`.
    """
    density = sae_of(pl_module).density.cpu()
    columns: dict[str, Sequence[Any]] = {"latent": range(len(density)), "density": density.tolist()}
    for callback in callbacks_of(trainer):
        if hasattr(callback, "latent_columns"):
            columns |= callback.latent_columns()
    table = pd.DataFrame(columns)
    return table[table["density"] > 0].copy()


class LatentTable(Callback):
    """Writes `latents.csv`, a row per latent that fired in the validation pass, after each pass.

    Its last column, `top_images`, has the ids of the top validation images, the largest activation first. A
    callback that is switched off only leaves out its columns. No other callback writes this file.

    Args:
        sort_by: column that orders the rows, largest first; without that column, by density.
    """

    def __init__(self, sort_by: str = "attribution") -> None:
        self.sort_by = sort_by

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merges the columns and writes the table."""
        if trainer.sanity_checking:
            return
        table = latent_table(trainer, pl_module)  # every rank: the density may synchronise
        _, top_ids = sae_of(pl_module).top_images.compute()
        table["top_images"] = id_texts(top_ids[table["latent"].tolist()])
        by = self.sort_by if self.sort_by in table else "density"
        publish_table(trainer, "latents", table.sort_values(by, ascending=False, kind="stable"))
