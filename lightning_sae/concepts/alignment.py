"""What a latent encodes: the mean of its top images, and the text that this mean agrees with."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, embedding_bag, normalize


@dataclass(frozen=True)
class Labels:
    """The best label of every latent.

    Attributes:
        index: `[d_sae]` int64 into the vocabulary, ties to the lower index; -1 for a latent without images.
        score: `[d_sae]` alignment with that label, in [-2, 2]; NaN for a latent without images.
        margin: `[d_sae]` >= 0, score minus that of the second-best label; infinite in a vocabulary of one,
            NaN for a latent without images.
        second: `[d_sae]` int64, the second-best label, ties to the lower index; -1 where there is none.
    """

    index: Tensor
    score: Tensor
    margin: Tensor
    second: Tensor


def concept_vectors(image_ids: Tensor, embeddings: Tensor) -> Tensor:
    """Return the mean embedding of every latent's top images: `v_j = mean_i e_i`.

    Dreyer et al. 2025, arXiv 2505.20229. One pass over the ids, never `[d_sae, n, d]`.

    Args:
        image_ids: `[d_sae, n]` int64, rows of `embeddings`; -1 where a latent has fewer than `n` images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.

    Returns:
        `[d_sae, d]`, not normalised; NaN for a latent without images.

    Example:
        >>> concept_vectors(torch.tensor([[0, 1], [1, -1]]), torch.eye(2)).tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    present = image_ids >= 0
    weights = present.to(embeddings.dtype) / present.sum(1, keepdim=True)
    ids = image_ids.clamp(min=0)
    return embedding_bag(ids, embeddings, per_sample_weights=weights, mode="sum")


def alignment_scores(vectors: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """Return the alignment of latents with texts: `s_j(t) = cos(v_j, t) - cos(v_j, t_empty)`.

    Dreyer et al. 2025, arXiv 2505.20229. The empty prompt shifts all scores of a latent alike. For a long
    list of texts use `best_labels`, which never holds the whole result.

    Args:
        vectors: `[d_sae, d]` concept vectors, of any length.
        texts: `[V, d]` unit text embeddings.
        empty: `[d]` unit embedding of the empty prompt.

    Returns:
        `[d_sae, V]` in [-2, 2]; NaN for a latent without images.

    Example:
        >>> empty = torch.tensor([0.6, 0.8])
        >>> alignment_scores(torch.tensor([[2.0, 0.0]]), torch.eye(2), empty)
        tensor([[ 0.4000, -0.6000]])
    """
    units = normalize(vectors, dim=-1)
    return units @ texts.T - (units @ empty)[:, None]


def best_labels(vectors: Tensor, texts: Tensor, empty: Tensor, chunk_size: int = 1024) -> Labels:
    """Label every latent with the text that it is aligned with most.

    One matrix product a chunk: `[chunk_size, V]` is all that is ever held.

    Args:
        vectors: `[d_sae, d]` concept vectors.
        texts: `[V, d]` unit text embeddings of the vocabulary.
        empty: `[d]` unit embedding of the empty prompt.
        chunk_size: latents at a time; memory grows with `chunk_size * V`.

    Example:
        >>> best_labels(torch.tensor([[0.6, 0.8]]), torch.eye(2), torch.zeros(2)).index
        tensor([1])
    """
    chunks = torch.split(normalize(vectors, dim=-1), chunk_size)
    parts = [_two_best(units @ texts.T, units @ empty) for units in chunks]
    return Labels(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def paired_alignment(vectors: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """Return the alignment of each vector with a text of its own: `cos(v_j, t_j) - cos(v_j, t_empty)`.

    For decoder directions behind the tail (`LastLayer.z`) in place of concept vectors this is the alignment
    of the logit lens: what a latent writes, instead of what it reads.

    Args:
        vectors: `[d_sae, d]`, of any length.
        texts: `[d_sae, d]` text embeddings.
        empty: `[d]` embedding of the empty prompt.

    Returns:
        `[d_sae]` in [-2, 2].

    Example:
        >>> paired_alignment(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0.6, 0.8]))
        tensor([0.4000])
    """
    return cosine_similarity(vectors, texts, dim=-1) - cosine_similarity(vectors, empty, dim=-1)


def semantic_lens(vectors: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """Return SemanticLens's score of each vector with a text of its own: `cos(v_j, t_j - t_empty)`.

    Dreyer et al. 2025, SemanticLens, arXiv 2501.05398. Unlike the alignment it depends on the empty prompt
    through the direction of the text, so that its best label can be another.

    Args:
        vectors: `[d_sae, d]`, of any length.
        texts: `[d_sae, d]` unit text embeddings, or `[d]` for one text.
        empty: `[d]` unit embedding of the empty prompt.

    Returns:
        `[d_sae]` in [-1, 1]; 0 for the empty prompt itself.

    Example:
        >>> semantic_lens(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([0.8, -0.6]))
        tensor([1.])
    """
    return cosine_similarity(vectors, texts - empty, dim=-1)


def clarity(image_ids: Tensor, embeddings: Tensor) -> Tensor:
    """Return how alike the top images of a latent are: the mean cosine between two different ones of them.

    `(||v_j||^2 - 1/n) * n / (n - 1)`, with `v_j` the mean of the `n` unit embeddings: the mean off the
    diagonal of their `n x n` cosines (clarity of Dreyer et al. 2025, SemanticLens, arXiv 2501.05398).

    Args:
        image_ids: `[d_sae, n]` int64, rows of `embeddings`; -1 where a latent has fewer images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.

    Returns:
        `[d_sae]` in [-1 / (n - 1), 1]; NaN below two images.

    Example:
        >>> clarity(torch.tensor([[0, 1], [1, -1]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        tensor([0.6000,    nan])
    """
    n = (image_ids >= 0).sum(1)
    square = concept_vectors(image_ids, embeddings).square().sum(1)
    return torch.where(n > 1, (square * n - 1) / (n - 1), torch.nan)


def _two_best(cosines: Tensor, empty: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the columns of `Labels` from the cosines with the labels and with the empty prompt.

    The cosines with the labels, `[chunk, V]`, are used up; the cosines with the empty prompt are `[chunk]`.
    """
    index = cosines.argmax(1, keepdim=True)  # the first of several, which `topk` does not promise
    best = cosines.gather(1, index)
    second = cosines.scatter_(1, index, -torch.inf).argmax(1, keepdim=True)
    margin = best - cosines.gather(1, second)
    unknown = best.isnan()
    index, second = index.masked_fill(unknown, -1), second.masked_fill(unknown | margin.isinf(), -1)
    return (
        index.squeeze(1),
        best.squeeze(1) - empty,
        margin.masked_fill(unknown, torch.nan).squeeze(1),
        (second.squeeze(1)),
    )
