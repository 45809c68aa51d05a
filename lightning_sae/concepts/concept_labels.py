"""The labels of all latents, as a labeller hands them to the code that names latents after it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

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
