"""The audit at the end of a training: findings on the terminal, `audit.json` and `audit.html`."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from lightning_sae.audit.audit import audit_to_folder
from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.evidence.evidence_pass import check_images
from lightning_sae.audit.examination import Options
from lightning_sae.audit.terminal import print_audit
from lightning_sae.classifiers.outputs import Output
from lightning_sae.data import ActivationDataModule
from lightning_sae.runs.classifier import check_choice
from lightning_sae.runs.folder import open_run
from lightning_sae.tracking.publish import run_dir


class Audit(Callback):
    """Audits the run as `lightning-sae audit` does, from its folder, when a training has ended.

    It reads what the callbacks save_sae and latent_table have written, so it stands behind them. CLIP and the
    store are opened once more for it.

    Args:
        classifier: what is audited: `prompts`, `probe` (fitted to the train embeddings), or the folder of a
            saved probe.
        prompts_file: JSON or YAML, `{class: [prompt, ...]}`; `None`: the prompts of the data.
        output: the score: cosine, logit, margin, probability, or one of your own.
        min_images: least number of images predicted as a class; fewer are not enough evidence.

    Raises:
        ValueError: an unknown score, prompts for a probe, a file without prompts; in `setup` a run on texts.
        FileNotFoundError: no prompts, or no probe, lie there.
    """

    logs = ()

    def __init__(
        self,
        classifier: str = "prompts",
        prompts_file: str | None = None,
        output: Output | str = "margin",
        min_images: int = 20,
    ) -> None:
        check_choice(classifier, prompts_file)
        self.classifier, self.prompts_file = classifier, prompts_file
        self.options = Options(output, Limits(min_images=min_images))

    def check(self, data: ActivationDataModule) -> None:
        """Refuse texts before hours of training."""
        check_images(data)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit the run and print what was found."""
        folder = run_dir(trainer)
        run = open_run(folder, device=trainer.strategy.root_device, trusted=None)
        audit = audit_to_folder(run, folder, self.classifier, self.prompts_file, self.options)
        print_audit(Console(), audit, folder)
