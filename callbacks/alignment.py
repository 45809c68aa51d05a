"""What each latent encodes: the label that its top images agree with best, and whether to believe it."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Self

import torch
from torch import Tensor

from callbacks.base import Pass, PassCallback
from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.baselines.shuffled import mean_alignment, permuted
from lightning_sae.baselines.terms import Terms
from lightning_sae.clip import Clip
from lightning_sae.concepts.alignment import (
    Labels,
    best_labels,
    clarity,
    concept_vectors,
    paired_alignment,
    semantic_lens,
)
from lightning_sae.concepts.concept_labels import ConceptLabels
from lightning_sae.concepts.significance import best_label_null, label_z, p_values_by_size, significant
from lightning_sae.concepts.stored_vocabulary import stored_vocabulary
from lightning_sae.concepts.validity import label_validity
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary, Vocabulary
from lightning_sae.data import ActivationDataModule, cached_tensor


class Alignment(PassCallback):
    """Labels the latents from their top images at every validation pass, by the judge (Dreyer et al. 2025).

    A latent is *named* if its label is significant (its top images are no random set) and valid (the label
    predicts where else the latent fires).

    Logged (over latents with at least one top image):
        alignment/mean, alignment/p10, alignment/p50, alignment/p90: score of the latents' own labels.
        alignment/margin: mean lead over the second label.
        alignment/clarity: mean clarity of the top images, over latents with at least two.
        alignment/significant_share: share with a significant label.
        alignment/validity_p10, alignment/validity_p50, alignment/validity_p90: held-out AUROC of the labels,
            over latents that have one.
        alignment/named, alignment/named_share: how many are named, and their share.

    Attributes:
        concepts: result of the last pass, for the callbacks listed after this one; `None` before the first.

    Args:
        vocabulary: the labels to choose from; without labels of its own, those of the data.
        draws: random image sets behind a p-value; none is below `1 / (draws + 1)`.
        seed: of the draws.
        fdr: false discovery rate of the significant labels (Benjamini-Hochberg), in (0, 1).
        min_validity: held-out AUROC that a named latent has at least, in [0, 1].
        min_held_out: images beside its top images that a latent must fire on to have a validity.
    """

    gives = ConceptLabels
    logs = (
        *("alignment/mean", "alignment/p10", "alignment/p50", "alignment/p90", "alignment/margin"),
        *("alignment/clarity", "alignment/significant_share", "alignment/named", "alignment/named_share"),
        *("alignment/validity_p10", "alignment/validity_p50", "alignment/validity_p90"),
    )
    needs_latents = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        draws: int = 1000,
        seed: int = 0,
        fdr: float = 0.05,
        min_validity: float = 0.8,
        min_held_out: int = 5,
    ) -> None:
        if min(draws, min_held_out) < 1:
            raise ValueError(f"draws and min_held_out must be at least 1, got {draws} and {min_held_out}")
        if not (0 < fdr < 1 and 0 <= min_validity <= 1):
            raise ValueError(
                f"fdr must be in (0, 1) and min_validity in [0, 1], got {fdr} and {min_validity}"
            )
        self.vocabulary = vocabulary
        self.draws, self.seed, self.fdr = draws, seed, fdr
        self.min_validity, self.min_held_out = min_validity, min_held_out
        self.embedded: EmbeddedVocabulary | None = None
        self._audited: EmbeddedVocabulary | None = None  # the same words as the audited CLIP reads them
        self.concepts: ConceptLabels | None = None
        self._terms: dict[str, Terms] = {}
        self._index = torch.empty(0)  # of the labels of the last pass

    def baseline(self) -> Self:
        """Return a copy, which shares the embedded labels."""
        return copy(self)

    def terms(self) -> Mapping[str, Terms]:
        """Return the terms of the logged means and counts, one term per latent."""
        return self._terms

    def shuffled_terms(self, pass_: Pass, seed: int) -> Mapping[str, Terms]:
        """Return the same terms for latents that were given each other's labels.

        The alignment is the mean over all permutations; the tests use one permutation, drawn by the seed.
        """
        words, index, vectors = self.embed(pass_.data), self._index, pass_[ConceptLabels].vectors
        columns = self._test(pass_, vectors, permuted(index, seed))
        scores = mean_alignment(vectors, index, words.texts, words.empty)
        return _terms(index >= 0, {"mean": scores}, columns)

    def check(self, data: ActivationDataModule) -> None:
        """Refuse labels of the data that cannot be used as labels."""
        self.vocabulary.choose(data.images("val").vocabulary)

    def embed(self, data: ActivationDataModule) -> EmbeddedVocabulary:
        """Return the vocabulary as the judge reads it, embedded once."""
        if self.embedded is None:
            self.embedded = self._read(data, data.judge)
        return self.embedded

    def _read(self, data: ActivationDataModule, clip: Clip) -> EmbeddedVocabulary:
        return stored_vocabulary(data, clip, self.vocabulary).to(data.judge_embeddings)

    def finish(self, pass_: Pass) -> ConceptLabels:
        """Label every latent, test the labels, and log."""
        data, words, top_ids = pass_.data, self.embed(pass_.data), pass_.top_ids
        vectors = concept_vectors(top_ids, data.judge_embeddings)
        labels = best_labels(vectors, words.texts, words.empty)
        columns = {"clarity": clarity(top_ids, data.judge_embeddings)}
        columns |= self._test(pass_, vectors, labels.index)
        columns |= self._compare(pass_, vectors, labels.index)
        known = top_ids[:, 0] >= 0
        self._index = labels.index
        means = {"mean": labels.score, "margin": labels.margin, "clarity": columns["clarity"]}
        self._terms = _terms(known, means, columns)
        if known.any():
            self.log_terms(pass_)
            _log_quantiles(pass_, labels.score[known], columns["validity"].float())
        self.concepts = self._concepts(data, vectors, labels, columns)
        return self.concepts

    def _test(self, pass_: Pass, vectors: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the chance and held-out validity of the labels."""
        data, words, top_ids = pass_.data, self.embed(pass_.data), pass_.top_ids
        latents, image_ids = pass_.latents
        sizes = (top_ids >= 0).sum(1)
        z = label_z(vectors, sizes, index, words.texts, data.judge_embeddings)
        p = p_values_by_size(z, sizes, partial(self._null, data, words))
        validity = label_validity(
            latents,
            image_ids,
            top_ids,
            index,
            words.texts,
            data.judge_embeddings,
            self.min_held_out,
        )
        sure = significant(p, self.fdr)
        named = sure & (validity >= self.min_validity)
        return {"z": z, "p": p, "significant": sure, "validity": validity, "named": named}

    def _null(self, data: ActivationDataModule, words: EmbeddedVocabulary, n: int) -> Tensor:
        """Return the best labels of random sets of `n` images."""
        sets = {"n": n, "draws": self.draws, "seed": self.seed}
        key = {"labels": words.labels, "templates": self.vocabulary.templates, **sets}
        draw = partial(best_label_null, data.judge_embeddings, words.texts, **sets)
        return cached_tensor(data.judge_folder / "nulls", "best_label_z", key, draw)

    def _compare(self, pass_: Pass, vectors: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return other scores of the given labels.

        The score of the decoder is among them only where the tail is a closed form.
        """
        data, words, chosen = pass_.data, self.embed(pass_.data), index.clamp(min=0)
        scores = {"semantic_lens": semantic_lens(vectors, words.texts[chosen], words.empty)}
        closed = LastLayer.of(data.tail, pass_.decoder)
        if closed is not None:
            self._audited = audited = self._audited or self._read(data, data.clip)
            scores["decoder_alignment"] = paired_alignment(closed.z, audited.texts[chosen], audited.empty)
        return {key: score.masked_fill(index < 0, torch.nan) for key, score in scores.items()}

    def _concepts(
        self, data: ActivationDataModule, vectors: Tensor, labels: Labels, columns: dict[str, Tensor]
    ) -> ConceptLabels:
        """Put the columns of `latents.csv` together."""
        words = self.embed(data)
        first, second = (
            [words.labels[i] if i >= 0 else "" for i in index.tolist()]
            for index in (labels.index, labels.second)
        )
        constant = {"draws": self.draws, "judge_independent": data.judge_independent}
        shown: dict[str, Sequence[object]] = {
            "label": first,
            "alignment": labels.score.tolist(),
            "margin": labels.margin.tolist(),
            "second_label": second,
            **{key: column.tolist() for key, column in columns.items()},
            **{key: [value] * len(first) for key, value in constant.items()},
        }
        named = columns["named"].tolist()
        return ConceptLabels(vectors, first, named, self.vocabulary.templates, shown, words)

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Return columns of `latents.csv`, each of length d_sae; none before the first validation pass."""
        return dict(self.concepts.columns) if self.concepts else {}


def _terms(known: Tensor, means: dict[str, Tensor], columns: dict[str, Tensor]) -> dict[str, Terms]:
    """Return the terms of the means of some columns and of the tests, over the latents with an image."""
    named = columns["named"][known].float().cpu()
    shares = {"significant_share": columns["significant"][known].float().cpu(), "named_share": named}
    found = {key: column[known].float().cpu() for key, column in means.items()} | shares
    terms = {f"alignment/{key}": Terms(values) for key, values in found.items()}
    return terms | {"alignment/named": Terms(named, total=True)}


def _log_quantiles(pass_: Pass, scores: Tensor, validity: Tensor) -> None:
    logged: dict[str, Tensor] = {}
    for prefix, values in {"p": scores, "validity_p": validity}.items():
        quantiles = values.nanquantile(values.new_tensor([0.1, 0.5, 0.9]))
        logged |= {f"{prefix}{p}": value for p, value in zip((10, 50, 90), quantiles, strict=True)}
    pass_.module.log_dict({f"alignment/{key}": value for key, value in logged.items()})
