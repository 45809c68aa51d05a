"""The classifier under audit: zero-shot prompts, or a linear probe on the same embeddings."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lightning_sae.classifiers.linear import Probe
from lightning_sae.classifiers.scores import ClassScores, Output


class ClassifierSource(BaseModel):
    """Where a saved classifier was read from.

    Attributes:
        folder: of it, absolute; or relative to that of the audit.
        sha256: of its weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    sha256: str


class Classifier(NamedTuple):
    """What gives an image its class.

    Attributes:
        class_names: `C` names.
        weights: unit text embeddings `[C, d_embed]`, or a probe.
        prompts: of each class; none for a probe.
        logit_scale: factor from cosine to logit, positive (not its logarithm); 1 for a probe.
        source: of a saved probe.
    """

    class_names: Sequence[str]
    weights: Tensor | Probe
    prompts: Sequence[Sequence[str]] = ()
    logit_scale: float = 1.0
    source: ClassifierSource | None = None

    @property
    def kind(self) -> Literal["prompts", "probe"]:
        """Which of the two it is."""
        return "probe" if isinstance(self.weights, Probe) else "prompts"

    def scores(self, output: Output = "margin") -> ClassScores:
        """Its scores, for attribution and ablation; a probe has no cosines, its logits take their place."""
        if output == "cosine" and self.kind == "probe":
            output = "logit"
        return ClassScores(self.weights, output, self.logit_scale)

    def predict(self, embeddings: Tensor) -> Tensor:
        """The class of each image, `[n, d_embed]` unit -> `[n]` int64, ties to the lower index."""
        return self.scores("logit").logits(embeddings).argmax(1)
