"""Names for the latents of a layer that no callback has labelled, by the rule of the default labeller."""

from functools import partial
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from lightning_sae.concepts.alignment import best_labels, concept_vectors
from lightning_sae.concepts.naming import LatentName
from lightning_sae.concepts.significance import best_label_null, label_z, p_values_by_size, significant
from lightning_sae.concepts.validity import label_validity
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary
from lightning_sae.types import SparseLatents


class LabelTests(NamedTuple):
    """The tests that a label has to pass to be a name, as `callbacks.alignment` has them.

    Attributes:
        draws: random sets of images.
        seed: of the draws.
        fdr: false discovery rate of the names.
        min_validity: smallest AUROC of the label for the latent's firing on other images.
        min_held_out: number of other images on which the latent must fire for this test.
    """

    draws: int = 1000
    seed: int = 0
    fdr: float = 0.05
    min_validity: float = 0.8
    min_held_out: int = 5

    @classmethod
    def of(cls, config: DictConfig) -> "LabelTests":
        """Return the tests of a run; settings that it leaves out have the library's defaults.

        Example:
            >>> from omegaconf import OmegaConf
            >>> LabelTests.of(OmegaConf.create({"callbacks": {"alignment": {"draws": 20}}})).draws
            20
        """
        given = config.callbacks.get("alignment") or {}
        return cls(**{name: given[name] for name in cls._fields if name in given})


def guess_names(top_ids: Tensor, words: EmbeddedVocabulary, embeddings: Tensor) -> list[LatentName]:
    """Return the label of each latent that its top images agree with most, none of them tested.

    Args:
        top_ids: `[n, top]` int64, ids of each latent's top images, -1 for none.
        words: the vocabulary by the judge.
        embeddings: `[n_images, d]` unit, the images by the judge.

    Returns:
        `n` names; "" for a latent without images.
    """
    index = best_labels(concept_vectors(top_ids, embeddings), words.texts, words.empty).index
    return [LatentName(words.labels[i] if i >= 0 else "", False) for i in index.tolist()]


def name_latents(
    latents: SparseLatents,
    top_ids: Tensor,
    words: EmbeddedVocabulary,
    embeddings: Tensor,
    tests: LabelTests,
) -> list[LatentName]:
    """Return the names of latents: the label that their top images agree with most, and whether it holds.

    A label is a name where it is significant against random sets of images and valid on the others
    (`docs/quantities.md`).

    Args:
        latents: latents of all `n` images, each with its largest activation over an image's tokens.
        top_ids: `[d_sae, top]` int64, their top images, -1 for none.
        words: the vocabulary by the judge.
        embeddings: `[n, d]` unit, the images by the judge.
        tests: that a name has to pass.
    """
    vectors, sizes = concept_vectors(top_ids, embeddings), (top_ids >= 0).sum(1)
    index = best_labels(vectors, words.texts, words.empty).index
    z = label_z(vectors, sizes, index, words.texts, embeddings)
    null = partial(best_label_null, embeddings, words.texts, draws=tests.draws, seed=tests.seed)
    ids = torch.arange(len(latents), device=embeddings.device)
    validity = label_validity(latents, ids, top_ids, index, words.texts, embeddings, tests.min_held_out)
    sure = significant(p_values_by_size(z, sizes, null), tests.fdr)
    named = sure & (validity >= tests.min_validity)
    labels = [words.labels[i] if i >= 0 else "" for i in index.tolist()]
    return [LatentName(*pair) for pair in zip(labels, named.tolist(), strict=True)]
