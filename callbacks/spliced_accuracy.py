"""What the autoencoder costs: zero-shot accuracy with its reconstruction in place of the activation."""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.explained import PassImages
from lightning_sae.baselines.terms import Terms
from lightning_sae.concepts.vocabulary import embed_labels
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics.accuracy import predict, worst_group


class SplicedAccuracy(PassCallback):
    """Zero-shot top-1 of the original CLIP and with the SAE spliced in, without the error term.

    Logged, in [0, 1]:
        zero_shot/original, zero_shot/spliced: share of images whose class is right.
        zero_shot/original_worst, zero_shot/spliced_worst: in the worst group of class x factor value, over
            all factors that the data know.
        zero_shot/original_FACTOR, zero_shot/spliced_FACTOR: share whose value of `FACTOR` is right, for the
            factors in `factor_templates` that the data know.

    Args:
        factor_templates: factor -> templates of its prompts, `{}` is the value.
        min_group: smaller groups are left out.
    """

    logs = (
        *("zero_shot/original", "zero_shot/original_worst", "zero_shot/original_*"),
        *("zero_shot/spliced", "zero_shot/spliced_worst", "zero_shot/spliced_*"),
    )

    def __init__(
        self, factor_templates: Mapping[str, Sequence[str]] | None = None, min_group: int = 10
    ) -> None:
        self.factor_templates = dict(factor_templates or {})
        self.min_group = min_group
        self._texts: dict[str, Tensor] = {}
        self._truth: dict[str, Tensor] = {}
        self._predictions: dict[str, Tensor] = {}
        self._terms: dict[str, Terms] = {}

    def baseline(self) -> Self:
        """Return a copy, which shares the embedded prompts."""
        return copy(self)

    def terms(self) -> Mapping[str, Terms]:
        """Return which images are right, with the autoencoder spliced in."""
        return self._terms

    def begin(self, pass_: Pass) -> None:
        """Embed the prompts once and forget the predictions."""
        if not self._texts:
            self._prepare(pass_.data)
        missing = torch.full_like(self._truth["class"], -1)
        keys = [f"{way}_{factor}" for way in ("original", "spliced") for factor in self._texts]
        self._predictions = {key: missing.clone() for key in keys}

    def _prepare(self, data: ActivationDataModule) -> None:
        images = data.images("val")
        self._texts, self._truth = {"class": data.class_embeddings}, {"class": images.targets}
        for factor, (values, truth) in images.factors.items():
            if factor != "class":
                self._truth[factor] = truth
            if templates := self.factor_templates.get(factor):
                self._texts[factor] = embed_labels(data.clip, values, templates).to(data.class_embeddings)

    def add(self, pass_: Pass, images: PassImages) -> None:
        """Predict from both embeddings."""
        ids = images.image_ids.cpu()
        spliced = pass_.data.tail(images.explained.x_hat, images.explained.context)
        for way, embeddings in {"original": images.embeddings, "spliced": spliced}.items():
            for factor, texts in self._texts.items():
                self._predictions[f"{way}_{factor}"][ids] = predict(embeddings, texts).cpu()

    def finish(self, pass_: Pass) -> None:
        """Log the accuracies."""
        self._terms = {}
        for way in ("original", "spliced"):
            for factor in self._texts:
                predictions = self._gathered(pass_, f"{way}_{factor}")
                truth = self._truth[factor].where(predictions >= 0, -1)  # only images of this pass
                suffix = "" if factor == "class" else f"_{factor}"
                right = (predictions == truth).float().where(truth >= 0, torch.nan)
                self._terms[f"zero_shot/{way}{suffix}"] = Terms(right, paired=True)
                if factor == "class" and len(self._truth) > 1:
                    pass_.module.log(f"zero_shot/{way}_worst", self._worst(predictions, truth))
        self.log_terms(pass_)

    def _gathered(self, pass_: Pass, key: str) -> Tensor:
        """Return the predictions `[n_val]` of all ranks, -1 for images that were not seen."""
        mine = self._predictions[key].to(pass_.module.device)
        everyone: Tensor = pass_.trainer.strategy.reduce(mine, reduce_op="max")
        return everyone.cpu()

    def _worst(self, predictions: Tensor, truth: Tensor) -> float:
        worst = float("nan")
        for factor, values in self._truth.items():
            if factor != "class":
                groups = torch.where(values >= 0, truth * (int(values.max()) + 1) + values, -1)
                found = worst_group(predictions, truth, groups, self.min_group).accuracy
                worst = found if worst != worst else min(worst, found)
        return worst
