"""The page of a run at the end of its training: `report.html`."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from lightning_sae.explorer import print_page, write_page
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.tracking.publish import run_dir
from lightning_sae.trust.control_characters import escape


class Report(Callback):
    """Writes the page of a run as `lightning-sae report` does, from its folder, when a training has ended.

    It reads what the callbacks save_sae and latent_table have written, and the findings of an audit if there
    is one, so it runs after all other callbacks. If the page cannot be written, the training ends well all
    the same: a line says why, and which command writes the page. Where several processes train, CLIP and the
    store are opened once more for it.
    """

    logs = ()

    def __init__(self) -> None:
        self._ended = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the training came to its end."""
        self._ended = True

    @rank_zero_only
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the page, after all that the other callbacks do at the end of the training."""
        if stage != "fit" or not self._ended:
            return
        console, folder = Console(), run_dir(trainer)
        try:
            run = self._run(trainer, folder)
            print_page(console, run, write_page(run, folder))
        except Exception as error:  # whatever it is, the training has ended well
            why = f"{type(error).__name__}: {error}"
            said = (
                f"The page of the run could not be written: {why}\n`lightning-sae report {folder}` writes it."
            )
            console.print(escape(said), soft_wrap=True, highlight=False)

    def _run(self, trainer: Trainer, folder: Path) -> RunFolder:
        alone = trainer.world_size == 1  # else the other processes would be waited for
        data = trainer.datamodule if alone else None  # type: ignore[attr-defined]
        return open_run(folder, device=trainer.strategy.root_device, trusted=None, data=data)
