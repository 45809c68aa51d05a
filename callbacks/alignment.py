"""What each latent encodes: the label that its top images agree with best, and whether to believe it."""

from collections.abc import Sequence
from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.parts import data_of, decoder_of, sae_of
from callbacks.whole_pass import WholePassCallback, image_latents
from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.clip import Clip
from lightning_sae.concepts.alignment import (
    Labels,
    best_labels,
    clarity,
    concept_vectors,
    paired_alignment,
    semantic_lens,
)
from lightning_sae.concepts.naming import LatentName
from lightning_sae.concepts.significance import best_label_null, label_z, p_values_by_size, significant
from lightning_sae.concepts.validity import label_validity
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary, Vocabulary, embed_labels
from lightning_sae.data import ActivationDataModule, cached_tensor


class Alignment(WholePassCallback):
    """Labels the latents from their top images at every validation pass, by the judge (Dreyer et al. 2025).

    A latent is *named* if its label is significant, which says that its top images are no random set, and
    valid: the label predicts where else the latent fires.

    Logged (over latents with at least one top image):
        alignment/mean, alignment/p10, alignment/p50, alignment/p90: score of the latents' own labels.
        alignment/margin: mean lead over the second label.
        alignment/clarity: mean clarity of the top images, over latents with at least two.
        alignment/significant_share: share with a significant label.
        alignment/validity_p10, alignment/validity_p50, alignment/validity_p90: held-out AUROC of the labels,
            over latents that have one.
        alignment/named, alignment/named_share: how many are named, and their share.

    Args:
        vocabulary: the labels to choose from; without labels of its own, those of the data.
        draws: random image sets behind a p-value; none is below `1 / (draws + 1)`.
        seed: of the draws.
        fdr: false discovery rate of the significant labels (Benjamini-Hochberg), in (0, 1).
        min_validity: held-out AUROC that a named latent has at least, in [0, 1].
        min_held_out: images beside its top images that a latent must fire on to have a validity.
    """

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
        self.vectors: Tensor | None = None
        self.labels: Labels | None = None
        self._columns: dict[str, Tensor] = {}
        self._judge_independent = False

    def check(self, data: ActivationDataModule) -> None:
        """Refuses labels of the data that are none."""
        self.vocabulary.choose(data.images("val").vocabulary)

    def embed(self, trainer: Trainer) -> EmbeddedVocabulary:
        """The vocabulary as the judge reads it, embedded once."""
        if self.embedded is None:
            data = data_of(trainer)
            self.embedded = self._embed(data, data.judge)
        return self.embedded

    def _embed(self, data: ActivationDataModule, clip: Clip) -> EmbeddedVocabulary:
        labels, templates = self.vocabulary.choose(data.images("val").vocabulary), self.vocabulary.templates
        key = {"weights": clip.identity()["weights"], "labels": labels, "templates": templates}
        embed = partial(embed_labels, clip, [*labels, ""], templates)
        rows = cached_tensor(data.judge_folder / "texts", "texts", key, embed).to(data.judge_embeddings)
        return EmbeddedVocabulary(labels, rows[:-1], rows[-1])

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Labels every latent, tests the labels, and logs."""
        data, words = data_of(trainer), self.embed(trainer)
        self._judge_independent = data.judge_independent
        _, top_ids = sae_of(pl_module).top_images.compute()
        self.vectors = concept_vectors(top_ids, data.judge_embeddings)
        self.labels = best_labels(self.vectors, words.texts, words.empty)
        self._columns = {"clarity": clarity(top_ids, data.judge_embeddings)}
        self._columns |= self._test(trainer, top_ids, self.vectors, self.labels)
        self._columns |= self._compare(trainer, pl_module, self.vectors, self.labels.index)
        known = top_ids[:, 0] >= 0
        if known.any():
            self._log(pl_module, known, self.labels)

    def _test(self, trainer: Trainer, top_ids: Tensor, vectors: Tensor, labels: Labels) -> dict[str, Tensor]:
        """Chance and held-out validity of the labels."""
        data, words = data_of(trainer), self.embed(trainer)
        latents, image_ids = image_latents(trainer)
        sizes = (top_ids >= 0).sum(1)
        z = label_z(vectors, sizes, labels.index, words.texts, data.judge_embeddings)
        p = p_values_by_size(z, sizes, partial(self._null, data, words))
        validity = label_validity(
            latents,
            image_ids,
            top_ids,
            labels.index,
            words.texts,
            data.judge_embeddings,
            self.min_held_out,
        )
        sure = significant(p, self.fdr)
        named = sure & (validity >= self.min_validity)
        return {"z": z, "p": p, "significant": sure, "validity": validity, "named": named}

    def _null(self, data: ActivationDataModule, words: EmbeddedVocabulary, n: int) -> Tensor:
        """The best labels of random sets of `n` images."""
        sets = {"n": n, "draws": self.draws, "seed": self.seed}
        key = {"labels": words.labels, "templates": self.vocabulary.templates, **sets}
        draw = partial(best_label_null, data.judge_embeddings, words.texts, **sets)
        return cached_tensor(data.judge_folder / "nulls", "best_label_z", key, draw)

    def _compare(
        self, trainer: Trainer, pl_module: LightningModule, vectors: Tensor, index: Tensor
    ) -> dict[str, Tensor]:
        """Other scores of the same labels; that of the decoder only where the tail is a closed form."""
        data, words, chosen = data_of(trainer), self.embed(trainer), index.clamp(min=0)
        scores = {"semantic_lens": semantic_lens(vectors, words.texts[chosen], words.empty)}
        closed = LastLayer.of(data.tail, decoder_of(pl_module))
        if closed is not None:
            audited = self._audited = self._audited or self._embed(data, data.clip)
            scores["decoder_alignment"] = paired_alignment(closed.z, audited.texts[chosen], audited.empty)
        return {key: score.masked_fill(index < 0, torch.nan) for key, score in scores.items()}

    def _log(self, pl_module: LightningModule, known: Tensor, labels: Labels) -> None:
        named, validity = self._columns["named"], self._columns["validity"].float()
        logged = {
            "mean": labels.score[known].mean(),
            "margin": labels.margin[known].mean(),
            "clarity": self._columns["clarity"].nanmean(),
            "significant_share": self._columns["significant"][known].float().mean(),
            "named": named.sum().float(),
            "named_share": named[known].float().mean(),
        }
        for prefix, values in {"p": labels.score[known], "validity_p": validity}.items():
            quantiles = values.nanquantile(values.new_tensor([0.1, 0.5, 0.9]))
            logged |= {f"{prefix}{p}": value for p, value in zip((10, 50, 90), quantiles, strict=True)}
        pl_module.log_dict({f"alignment/{key}": value for key, value in logged.items()})

    def label_names(self) -> list[str]:
        """The label of each latent; "" before the first validation pass."""
        return [] if self.labels is None else self._names(self.labels.index)

    def latent_names(self) -> list[LatentName]:
        """The names of the latents; none before the first validation pass."""
        named = self._columns["named"].tolist() if self._columns else []
        return [LatentName(*name) for name in zip(self.label_names(), named, strict=True)]

    def _names(self, index: Tensor) -> list[str]:
        labels = [] if self.embedded is None else self.embedded.labels
        return [labels[i] if i >= 0 else "" for i in index.tolist()]

    def latent_columns(self) -> dict[str, Sequence[object]]:
        """Columns of `latents.csv`, each of length d_sae; none before the first validation pass."""
        if self.labels is None:
            return {}
        constant = {"draws": self.draws, "judge_independent": self._judge_independent}
        return {
            "label": self.label_names(),
            "alignment": self.labels.score.tolist(),
            "margin": self.labels.margin.tolist(),
            "second_label": self._names(self.labels.second),
            **{key: column.tolist() for key, column in self._columns.items()},
            **{key: [value] * len(self.labels.index) for key, value in constant.items()},
        }
