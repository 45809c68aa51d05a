"""How good the latents are, and how much they change from one validation pass to the next."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor
from torch.nn.functional import cosine_similarity

from callbacks.base import Pass, PassCallback
from lightning_sae.baselines.terms import Terms
from lightning_sae.concepts.alignment import concept_vectors
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.quality import (
    image_overlap,
    label_churn,
    polysemanticity,
    redundancy,
    semantic_lens_polysemanticity,
)
from lightning_sae.metrics import MonoSemanticity
from lightning_sae.types import ValidationOutput


class Quality(PassCallback):
    """Scores every latent by the judge's embeddings of its images, and compares it with one pass earlier.

    Logged (means over the latents with a top image where the score is defined):
        alignment/polysemanticity: distance of two clusters of the top images, in [0, 2]; SemanticLens has
            other clusters.
        alignment/polysemanticity_semantic_lens: as SemanticLens computes it, with `semantic_lens`.
        alignment/monosemanticity: MonoSemanticity score over all images, in [-1, 1].
        alignment/redundancy, alignment/redundancy_decoder: largest cosine of the concept vector, and of the
            decoder row, to another latent's.

    From the second validation pass of a training, over the latents with top images in both:
        alignment/churn: share of them whose label changed; after Alignment.
        alignment/identity: mean cosine of the decoder row to itself one pass earlier.
        alignment/identity_images: mean Jaccard index of the top images and those one pass earlier.

    A pass outside of a training repeats the last three as the training had them.

    Args:
        semantic_lens: whether to compute polysemanticity as SemanticLens does as well, some milliseconds a
            latent.
    """

    uses = (ConceptLabels,)
    logs = (
        *("alignment/polysemanticity", "alignment/polysemanticity_semantic_lens"),
        *("alignment/monosemanticity", "alignment/redundancy", "alignment/redundancy_decoder"),
        *("alignment/churn", "alignment/identity", "alignment/identity_images"),
    )

    def __init__(self, semantic_lens: bool = False) -> None:
        self.semantic_lens = semantic_lens
        self._scores: dict[str, Tensor] = {}
        self._monosemanticity: MonoSemanticity | None = None
        self._before: dict[str, Any] = {}
        self._change: dict[str, float] = {}

    def baseline(self) -> Self:
        """Return a callback without memory of a pass, and without the polysemanticity that takes long."""
        return type(self)()

    def terms(self) -> Mapping[str, Terms]:
        """Return the scores of the latents."""
        scores = {key: score for key, score in self._scores.items() if key != "most_alike"}
        return {f"alignment/{key}": Terms(score.float().cpu()) for key, score in scores.items()}

    def begin(self, pass_: Pass) -> None:
        """Empty the sums."""
        d_sae, d = pass_.sae.d_sae, pass_.data.judge_embeddings.shape[1]
        self._monosemanticity = MonoSemanticity(d_sae, d).to(pass_.module.device)

    def add_batch(self, pass_: Pass, outputs: ValidationOutput) -> None:
        """Add the images of a batch."""
        assert self._monosemanticity is not None
        self._monosemanticity.update(outputs.latents, outputs.image_ids, pass_.data.judge_embeddings)

    def finish(self, pass_: Pass) -> None:
        """Score the latents, compare them with the last pass, and log."""
        assert self._monosemanticity is not None
        embeddings, decoder, image_ids = pass_.data.judge_embeddings, pass_.sae.W_dec.detach(), pass_.top_ids
        known = image_ids[:, 0] >= 0
        alike = redundancy(concept_vectors(image_ids, embeddings), known)
        self._scores = {
            "polysemanticity": polysemanticity(image_ids, embeddings),
            "monosemanticity": self._monosemanticity.compute(),
            "redundancy": alike.cosine,
            "redundancy_decoder": redundancy(decoder, known).cosine,
            "most_alike": alike.other,
        }
        self._monosemanticity = None  # [d_sae, d] in float64 would stay through the training
        if self.semantic_lens:
            theirs = semantic_lens_polysemanticity(image_ids, embeddings)
            self._scores["polysemanticity_semantic_lens"] = theirs
        self.log_terms(pass_)
        if pass_.fitting:
            concepts = pass_.get(ConceptLabels)
            self._compare(decoder, image_ids, list(concepts.labels) if concepts else [])
        for key, value in self._change.items():
            pass_.module.log(f"alignment/{key}", value)

    def _compare(self, decoder: Tensor, image_ids: Tensor, labels: list[str]) -> None:
        """Measure the change since the last pass, and keep this one."""
        now: dict[str, Any] = {
            "W_dec": decoder.half().cpu(),
            "image_ids": image_ids.int().cpu(),
            "labels": labels,
        }
        before, self._before, self._change = self._before, now, {}
        if not before:
            return
        both = (before["image_ids"][:, 0] >= 0) & (now["image_ids"][:, 0] >= 0)
        rows = cosine_similarity(before["W_dec"].float(), now["W_dec"].float())
        overlap = image_overlap(before["image_ids"], now["image_ids"])
        self._change = {"identity": float(rows[both].mean()), "identity_images": float(overlap[both].mean())}
        if before["labels"] and labels:
            self._change["churn"] = label_churn(before["labels"], labels)

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Return the columns of `latents.csv`, each of length d_sae.

        There are no columns before the first validation pass.
        """
        return {key: score.tolist() for key, score in self._scores.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what the next pass is compared with; decoder rows in float16 move a cosine by about 1e-5."""
        return {"before": self._before, "change": self._change}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing."""
        self._before, self._change = state_dict["before"], state_dict["change"]
