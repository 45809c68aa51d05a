"""The labels of all latents, as one labeller gives them to whoever names latents after it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from lightning_sae.concepts.alignment import best_labels, concept_vectors
from lightning_sae.concepts.naming import LatentName
from lightning_sae.concepts.vocabulary import EmbeddedVocabulary


class ConceptLabels(NamedTuple):
    """The label of every latent and how far it is to be trusted.

    Attributes:
        vectors: `[d_sae, d]` concept vectors, by the judge; NaN for a latent without images.
        labels: of each latent; "" for one without.
        named: of each latent, whether its label is to be relied on.
        templates: of the vocabulary, each with one `{}`.
        columns: what `latents.csv` shows of them, each of length `d_sae`: scores, significance, validity.
        vocabulary: the labels to choose from, as the judge reads them; `None` where they are no vocabulary.

    Example:
        >>> import torch
        >>> found = ConceptLabels(torch.eye(2), ["star", ""], [True, False], ["a {}"], {})
        >>> [str(name) for name in found.names]
        ['star', '?']
    """

    vectors: Tensor
    labels: Sequence[str]
    named: Sequence[bool]
    templates: Sequence[str]
    columns: Mapping[str, Sequence[object]]
    vocabulary: EmbeddedVocabulary | None = None

    @property
    def names(self) -> list[LatentName]:
        """The names of the latents."""
        return [LatentName(*name) for name in zip(self.labels, self.named, strict=True)]

    def guesses(self, top_ids: Tensor, embeddings: Tensor) -> list[LatentName]:
        """Return the best labels of the latents of another autoencoder, none of them tested.

        Args:
            top_ids: `[d_sae, n]` ids of each latent's top images, -1 for none.
            embeddings: `[n_images, d]` unit image embeddings of the judge.

        Returns:
            A guess for each latent; without label where there is no vocabulary, or the latent has no images.
        """
        words = self.vocabulary
        if words is None:
            return [LatentName("", False)] * len(top_ids)
        index = best_labels(concept_vectors(top_ids, embeddings), words.texts, words.empty).index
        return [LatentName(words.labels[i] if i >= 0 else "", False) for i in index.tolist()]
