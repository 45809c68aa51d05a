"""Whether the latents of a joint embedding fire on images, on texts, or on both."""

from collections.abc import Sequence

from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.data import ActivationDataModule, JointDataModule
from lightning_sae.metrics import Modality, fires_on, modality_score
from lightning_sae.types import ValidationOutput


class ModalityScore(PassCallback):
    """Scores every latent by the modality that it fires on, at every validation pass over a joint embedding.

    Logged (over the latents that fire):
        modality/images, modality/texts, modality/both: share of them that fires on images alone, on texts
            alone, on both.
        modality/mean: mean score, 1 for images alone and 0 for texts alone.
        modality/energy_both: share of all activation that belongs to latents which fire on both.

    Columns of `latents.csv`: `modality`, the score, and `fires_on`.

    Args:
        margin: a score within it of 0 or 1 counts as one modality alone, in [0, 0.5).

    Raises:
        ValueError: a margin out of range; on the first pass, data of one modality alone.
    """

    logs = ("modality/images", "modality/texts", "modality/both", "modality/mean", "modality/energy_both")

    def __init__(self, margin: float = 0.1) -> None:
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin must be in [0, 0.5), got {margin}")
        self.margin = margin
        self.score: Tensor | None = None
        self._means: Modality | None = None

    def check(self, data: ActivationDataModule) -> None:
        """Refuse data that are not images and texts together."""
        if not isinstance(data, JointDataModule):
            raise ValueError(
                "a modality score needs images and texts in one data set, such as data=world_joint, got "
                f"{type(data).__name__}; leave the callback out with ~callbacks.modality"
            )

    def begin(self, pass_: Pass) -> None:
        """Empty the sums."""
        self.check(pass_.data)
        self._means = Modality(pass_.sae.d_sae).to(pass_.module.device)

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Add the examples of a batch."""
        assert self._means is not None
        n_images: int = pass_.data.images("val").n_images  # type: ignore[attr-defined]
        self._means.update(outputs.latents, outputs.image_ids >= n_images)

    def finish(self, pass_: Pass) -> None:
        """Score the latents and log."""
        assert self._means is not None
        means = self._means.compute()
        self.score = modality_score(*means).cpu()
        names = fires_on(self.score, self.margin)
        energy = means.sum(0).cpu()
        alive = energy > 0
        shares = {name: names.count(name) / max(int(alive.sum()), 1) for name in ("images", "texts", "both")}
        both = energy.new_tensor([name == "both" for name in names])
        shares["mean"] = float(self.score.nanmean())
        shares["energy_both"] = float((energy * both).sum() / energy.sum())
        pass_.module.log_dict({f"modality/{name}": value for name, value in shares.items()})
        self._means = None

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Score and name of each latent; none before the first validation pass."""
        if self.score is None:
            return {}
        return {"modality": self.score.tolist(), "fires_on": fires_on(self.score, self.margin)}
