"""The trained autoencoders as folders that `load_sae` reads."""

from lightning.pytorch import LightningModule, Trainer

from callbacks.base import Pass, PassCallback
from lightning_sae.runs.layers import layer_folder
from lightning_sae.sae import save_sae
from lightning_sae.tracking.publish import run_dir


class SaveSAE(PassCallback):
    """Saves the SAE, taking raw activations, to `sae/` in the run folder when training ends.

    Those of earlier hook points are saved to `layers/NAME/sae/`, each with its own provenance and values.

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
        if not pass_.trainer.is_global_zero:
            return
        values = {key: float(value) for key, value in pass_.trainer.callback_metrics.items()}
        for layer in pass_.module.layers:
            made_for = pass_.data.earlier[layer.name] if layer.name else pass_.data
            folder = layer_folder(run_dir(pass_.trainer), layer.name) / "sae"
            save_sae(layer.sae, folder, made_for.provenance(), layer.values_in(values))
