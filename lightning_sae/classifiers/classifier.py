"""The classifier under audit: zero-shot prompts, or a linear probe on the same embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.outputs import Output, as_output
from lightning_sae.classifiers.scores import ClassScores


class ClassifierSource(BaseModel):
    """The place from which a saved classifier was read.

    Attributes:
        folder: folder of the classifier, absolute, or relative to the folder of the audit.
        sha256: digest of the classifier's weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Classifier(LinearClassifier):
    """A linear classifier with the names of its classes.

    Attributes:
        weight: `[C, d_embed]`; unit text embeddings times CLIP's logit scale, or the weights of a probe.
        bias: `[C]`; zeros for prompts.
        class_names: `C` names.
        prompts: prompts of each class; none for a probe.
        source: place of a saved probe.
    """

    class_names: Sequence[str]
    prompts: Sequence[Sequence[str]] = ()
    source: ClassifierSource | None = None

    @classmethod
    def of_prompts(
        cls, class_names: Sequence[str], prompts: Sequence[Sequence[str]], texts: Tensor, logit_scale: float
    ) -> Self:
        """Return the zero-shot classifier of some prompts.

        Args:
            class_names: `C` names.
            prompts: one or more prompts of each class.
            texts: `[C, d_embed]` unit, embeddings of the prompts.
            logit_scale: factor from cosine to logit, positive (not its logarithm).

        Example:
            >>> import torch
            >>> prompts = [["a cat"], ["a dog"]]
            >>> classifier = Classifier.of_prompts(["cat", "dog"], prompts, torch.eye(2), 100.0)
            >>> classifier.logits(torch.tensor([[0.6, 0.8]])).round()
            tensor([[60., 80.]])
        """
        return cls(texts * logit_scale, texts.new_zeros(len(texts)), class_names, prompts)

    @property
    def kind(self) -> Literal["prompts", "probe"]:
        """The kind of classifier: prompts or a probe."""
        return "prompts" if self.prompts else "probe"

    def scores(self, output: Output | str = "margin") -> ClassScores:
        """Return the scores for attribution and ablation; a probe has logits in place of cosines."""
        output = as_output(output) if self.prompts else as_output(output).for_probe()
        return ClassScores(normalize(self.weight) if self.prompts and output.of_cosines else self, output)
