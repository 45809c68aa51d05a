"""The page of a run at the end of its training: `report.html`."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from lightning_sae.explorer import print_page, write_page
from lightning_sae.runs.folder import open_run
from lightning_sae.tracking.publish import run_dir


class Report(Callback):
    """Writes the page of a run as `lightning-sae report` does, from its folder, when a training has ended.

    It reads what the callbacks save_sae and latent_table have written, and the findings of an audit where
    there is one: it comes when all others are done. Where several processes
    train, CLIP and the store are opened once more for it.
    """

    logs = ()

    def __init__(self) -> None:
        self._ended = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the training came to its end."""
        self._ended = True

    @rank_zero_only
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the page behind what the other callbacks do at the end of the training."""
        if stage != "fit" or not self._ended:
            return
        alone = trainer.world_size == 1  # else the other processes would be waited for
        data = trainer.datamodule if alone else None  # type: ignore[attr-defined]
        run = open_run(run_dir(trainer), device=trainer.strategy.root_device, trusted=None, data=data)
        print_page(Console(), run, write_page(run, run.folder))
