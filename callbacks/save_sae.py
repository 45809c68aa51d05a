"""The trained autoencoder as a folder that `load_sae` reads."""

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.parts import data_of, sae_of
from lightning_sae.sae import save_sae
from lightning_sae.tracking.publish import run_dir


class SaveSAE(Callback):
    """Saves the SAE, taking raw activations, to `sae/` in the run folder when training ends.

    Args:
        every_validation: also after each validation pass, replacing the one before.
    """

    def __init__(self, every_validation: bool = False) -> None:
        self.every_validation = every_validation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves in between, if asked to."""
        if self.every_validation and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the result, which an average of weights becomes as training ends."""
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            provenance = data_of(trainer).provenance()
            metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
            save_sae(sae_of(pl_module).sae, run_dir(trainer) / "sae", provenance, metrics)
