"""How each latent drives the scores of the classes: activation x gradient, mean per class."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self, get_args

import pandas as pd
import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.explained import Explained, PassImages
from lightning_sae.attribution.gradient import attribute, gradient, remainder, token_sums
from lightning_sae.attribution.means import (
    AttributionMeans,
    ClassAttribution,
    MeanAttribution,
    Over,
    agreement,
)
from lightning_sae.attribution.per_class import MeanOverImages, mean_over_images
from lightning_sae.classifiers.linear import LinearClassifier, fit_probe
from lightning_sae.classifiers.outputs import Output, as_output
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.naming import LatentName, name_columns
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.store.layout import store_folder
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.metrics.accuracy import predict
from lightning_sae.tracking.publish import publish_table
from lightning_sae.types import SparseLatents


class _Judged(NamedTuple):
    """Sums of one way to score the classes."""

    scores: ClassScores
    own: MeanAttribution
    everyone: MeanOverImages | None

    def compute(self) -> tuple[AttributionMeans, AttributionMeans]:
        """Return the means, and the signs of the score of each image's own class."""
        signs = AttributionMeans(*(part.detach().cpu() for part in self.own.compute()))
        if self.everyone is None:
            return signs, signs
        counts = torch.full_like(signs.counts, int(signs.counts.sum()))
        return signs._replace(mean=self.everyone.compute().cpu(), counts=counts), signs


class Attribution(PassCallback):
    """Mean attribution of every latent to the score of every class, at every validation pass.

    Logged, of the score of each image's own class (predicted, or true with `over: true`), means over images:
        attribution/positive_mass, attribution/negative_mass: of the latents, `sum_j max(0, R_j)` and
            `sum_j min(0, R_j)`.
        attribution/bias, attribution/error: of the decoder bias and of the reconstruction error; at the last
            block the four sum to zero.
        attribution/bias_share, attribution/error_share: of the mass, signs dropped, in [0, 1].
        attribution/probe_agreement: with a probe, the correlation of its attributions with those of the
            texts over the latents, mean over classes.

    Writes `attribution.csv` and `prompts.csv`: the latents with the largest mean per class and per prompt.

    Attributes:
        means: of the last pass; `None` before the first.
        probe_means: the same for the probe, if there is one.
        prompt_means: `[n_prompts, d_sae]`, if there are prompts.
        tokens: image id -> attributions of its tokens to the score of its class. It has the probe images of
            this process, and only where the tail of the hook point is no closed form.

    Args:
        output: the score: cosine, logit, margin (log odds against the other classes), probability, or one of
            your own (`lightning_sae.classifiers.outputs.Output`).
        over: the images behind a class's mean: those predicted as the class, those truly of it, or all.
        prompts: texts; the latents are also attributed to the cosine of each text with every image.
        probe: whether to fit a linear probe to the train embeddings, and attribute its score too (a cosine
            is compared with its logit).
        top: latents per class in the tables.
    """

    gives = ClassAttribution
    logs = (
        *("attribution/positive_mass", "attribution/negative_mass", "attribution/bias", "attribution/error"),
        *("attribution/bias_share", "attribution/error_share", "attribution/probe_agreement"),
    )

    def __init__(
        self,
        output: Output | str = "margin",
        over: Over = "predicted",
        prompts: Sequence[str] = (),
        probe: bool = False,
        top: int = 10,
    ) -> None:
        if over not in get_args(Over):
            raise ValueError(f"over must be one of {', '.join(get_args(Over))}; got {over!r}")
        if isinstance(prompts, str):
            raise ValueError(f"prompts must be a list of texts, got {prompts!r}: write [{prompts!r}]")
        self.output = as_output(output)
        self.over, self.prompts, self.probe, self.top = over, list(prompts), probe, top
        self.means: AttributionMeans | None = None
        self.probe_means: AttributionMeans | None = None
        self.prompt_means: Tensor | None = None
        self.tokens: dict[int, SparseLatents] = {}
        self._judged: list[_Judged] = []
        self._by_prompt: MeanOverImages | None = None
        self._fitted: LinearClassifier | None = None
        self._class_names: list[str] = []

    def baseline(self) -> Self:
        """Return one for the classes alone, without prompts and probe."""
        return type(self)(self.output, self.over)

    def heatmap(self, image_id: int, latent: int | None = None) -> Tensor:
        """Return the attribution of each token of a probe image, `[t]`: of one latent, or the sum of all.

        Raises:
            KeyError: an image that is not in `tokens`.
        """
        return token_sums(self.tokens[image_id], latent)

    def begin(self, pass_: Pass) -> None:
        """Empty the sums."""
        data = pass_.data
        self._class_names, self.tokens = data.class_names, {}
        texts = ClassScores(data.class_embeddings, self.output, data.clip.logit_scale)
        self._judged = [self._sums(pass_, texts)]
        if self.probe:
            self._fitted = self._fitted or _fit(data)
            fitted = ClassScores(self._fitted.to(data.class_embeddings), self.output.for_probe())
            self._judged.append(self._sums(pass_, fitted))
        if self.prompts:
            cosines = ClassScores(data.clip.encode_text(self.prompts))
            self._by_prompt = mean_over_images(data.tail, pass_.decoder, cosines)

    def _sums(self, pass_: Pass, scores: ClassScores) -> _Judged:
        tail, W_dec = pass_.data.tail, pass_.decoder
        everyone = mean_over_images(tail, W_dec, scores) if self.over == "all" else None
        own = MeanAttribution(len(scores.weight), len(W_dec)).to(pass_.module.device)
        return _Judged(scores, own, everyone)

    def add(self, pass_: Pass, images: PassImages) -> None:
        """Attribute the scores of some images."""
        explained, texts = images.explained, pass_.data.class_embeddings
        own = images.targets if self.over == "true" else predict(images.embeddings, texts)
        b_dec = pass_.sae.bias(explained.x.flatten(0, 1)).float()
        for judged in self._judged:
            values = _add_own(judged, explained, own, b_dec)
            if judged is self._judged[0] and not pass_.closed_form:
                self._keep(images, values)
            if judged.everyone is not None:
                judged.everyone.update(explained)
        if self._by_prompt is not None:
            self._by_prompt.update(explained)

    def _keep(self, images: PassImages, values: Tensor) -> None:
        attributions, t = images.explained.latents.with_values(values).to("cpu"), images.explained.x.shape[1]
        for i, image_id in enumerate(images.image_ids.tolist()):
            self.tokens[image_id] = attributions.slice(i * t, (i + 1) * t)

    def finish(self, pass_: Pass) -> ClassAttribution:
        """Take the means and log the signs."""
        (self.means, signs), *others = [judged.compute() for judged in self._judged]
        pooled = signs.pooled()
        pass_.module.log("attribution/positive_mass", pooled.positive[0])
        pass_.module.log("attribution/negative_mass", pooled.negative[0])
        for key in ("bias", "error", "bias_share", "error_share"):
            pass_.module.log(f"attribution/{key}", getattr(pooled, key)[0])
        if others:
            self.probe_means = others[0][0]
            alike = agreement(self.means.mean, self.probe_means.mean).nanmean()
            pass_.module.log("attribution/probe_agreement", alike)
        if self._by_prompt is not None:
            self.prompt_means = self._by_prompt.compute().cpu()
        self._judged, self._by_prompt = [], None
        return ClassAttribution(self.means, self.output, self.over)

    def report(self, pass_: Pass) -> None:
        """Write the tables."""
        if not pass_.trainer.is_global_zero:
            return
        concepts = pass_.get(ConceptLabels)
        names = concepts.names if concepts else []
        means = pass_[ClassAttribution].means
        publish_table(pass_.trainer, "attribution", self._table(means, names))
        if self.prompt_means is not None:
            prompts = pd.DataFrame({"prompt": self.prompts})
            publish_table(pass_.trainer, "prompts", _top(prompts, self.prompt_means, self.top, names))

    def _table(self, means: AttributionMeans, names: Sequence[LatentName]) -> pd.DataFrame:
        known = means.counts.nonzero().flatten()
        classes = pd.DataFrame({"class": self._class_names, "images": means.counts}).iloc[known.tolist()]
        for key in ("positive", "negative", "bias_share", "error_share"):
            classes[key if key.endswith("share") else f"{key}_mass"] = getattr(means, key)[known].tolist()
        table = _top(classes, means.mean[known], self.top, names)
        if self.probe_means is not None:
            index = {name: c for c, name in enumerate(self._class_names)}
            of_class = [index[name] for name in table["class"]]
            table["probe_attribution"] = self.probe_means.mean[of_class, table["latent"].tolist()].tolist()
        return table

    def latent_columns(self) -> dict[str, Sequence[Any]]:
        """Return for each latent the class that it drives most, how much, and the absolute sum over classes.

        There are no columns before the first validation pass.
        """
        if self.means is None:
            return {}
        best = self.means.mean.nan_to_num(nan=-torch.inf).max(0)
        known = best.values > -torch.inf
        return {
            "attribution": best.values.where(known, torch.nan).tolist(),
            "attribution_mass": self.means.mean.abs().nansum(0).tolist(),
            "attribution_class": [
                self._class_names[c] if k else "" for c, k in zip(best.indices, known, strict=True)
            ],
        }


def _add_own(judged: _Judged, explained: Explained, classes: Tensor, b_dec: Tensor) -> Tensor:
    """Add the score of each image's own class to the sums, and return its attributions `[nnz]`."""
    n, t, _ = explained.x.shape
    score = judged.scores.of(classes.clamp(min=0))
    g = gradient(explained.tail, explained.x, score, explained.context, batch_size=n).flatten(0, 1)
    values = attribute(explained.latents, explained.W_dec, g)
    rest = remainder(explained.x.flatten(0, 1), explained.x_hat.flatten(0, 1), b_dec, g)
    image_rows = torch.arange(n, device=g.device).repeat_interleave(t)
    judged.own.update(explained.latents, values, classes, image_rows, rest)
    return values


def _top(scored: pd.DataFrame, means: Tensor, top: int, names: Sequence[LatentName]) -> pd.DataFrame:
    """Return the `top` latents with the largest means `[m, d_sae]`, for each of the `m` rows of `scored`."""
    best = means.topk(min(top, means.shape[1]), dim=1)
    shares = best.values / means.clamp(min=0).sum(1, keepdim=True)
    table = scored.loc[scored.index.repeat(best.indices.shape[1])].reset_index(drop=True)
    table["latent"] = best.indices.flatten().tolist()
    if names:
        table = table.assign(**name_columns([names[j] for j in table["latent"]]))
    table["attribution"], table["share"] = best.values.flatten().tolist(), shares.flatten().tolist()
    return table


def _fit(data: ActivationDataModule) -> LinearClassifier:
    """Return a probe on the stored embeddings of `train`."""
    images = data.images("train")
    embeddings = read_tensor(store_folder(data.store_dir, data.clip, images) / "images", "embeddings")
    return fit_probe(embeddings, images.targets, len(data.class_names))
