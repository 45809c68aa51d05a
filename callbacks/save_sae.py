"""The trained autoencoder as a folder that `load_sae` reads."""

from lightning.pytorch import LightningModule, Trainer

from callbacks.base import Pass, PassCallback
from lightning_sae.sae import save_sae
from lightning_sae.tracking.publish import run_dir


class SaveSAE(PassCallback):
    """Saves the SAE, taking raw activations, to `sae/` in the run folder when training ends.

    Args:
        every_validation: also after each validation pass, replacing the one before.
    """

    logs = ()

    def __init__(self, every_validation: bool = False) -> None:
        self.every_validation = every_validation

    def report(self, pass_: Pass) -> None:
        """Save in between, if asked to."""
        if self.every_validation and pass_.fitting:
            self._save(pass_)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the result, which an average of weights becomes as training ends."""
        self._save(Pass(trainer, pl_module))

    def _save(self, pass_: Pass) -> None:
        if pass_.trainer.is_global_zero:
            logged = pass_.trainer.callback_metrics
            metrics = {k: float(v) for k, v in logged.items() if k.startswith("val/")}
            save_sae(pass_.sae, run_dir(pass_.trainer) / "sae", pass_.data.provenance(), metrics)
