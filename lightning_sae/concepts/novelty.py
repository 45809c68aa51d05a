"""Concepts without a word: latents whose images are alike and that no label fits, copies in one group."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lightning_sae.concepts.alignment import clarity, concept_vectors
from lightning_sae.concepts.significance import p_values_by_size, random_image_sets, significant

_FARTHEST = 0.1  # share of latents whose halves may be less alike than what is joined


class Novelty(NamedTuple):
    """The latents that have no name yet.

    Attributes:
        p: `[d_sae]` float64, chance that as many random images are as alike; NaN below two top images.
        novel: `[d_sae]` bool: alike beyond chance, and not named.
        group: `[d_sae]` int64, group of near copies, the largest is 0; -1 for what is not novel.
    """

    p: Tensor
    novel: Tensor
    group: Tensor


def clarity_null(embeddings: Tensor, n: int, draws: int = 1000, seed: int = 0) -> Tensor:
    """Return how alike random sets of images are.

    Args:
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        n: images in a set, as many as the latent has top images.
        draws: number of sets.
        seed: of the draws.

    Returns:
        `[draws]`, their clarity; NaN for sets of one image.

    Example:
        >>> clarity_null(torch.eye(3), n=2, draws=2)
        tensor([0., 0.])
    """
    sets = random_image_sets(len(embeddings), n, draws, seed)
    return clarity(sets.to(embeddings.device), embeddings)


def find_novel(
    top_ids: Tensor, embeddings: Tensor, named: Tensor, null: Callable[[int], Tensor], fdr: float = 0.05
) -> Novelty:
    """Find the latents that encode something which the vocabulary has no word for.

    The top images of a latent are alike if they are clearer than random sets of as many images
    (`clarity_null`), at a false discovery rate of `fdr` over the latents (Benjamini-Hochberg). A label that
    fits makes a latent *named*.

    Args:
        top_ids: `[d_sae, n]` int64, rows of `embeddings`; -1 where a latent has fewer images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        named: `[d_sae]` bool, whether a label fits.
        null: images in a set -> `[draws]`, clarity of random sets.
        fdr: false discovery rate, in (0, 1).

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> tops, named = torch.tensor([[0, 1], [0, 3], [0, 1]]), torch.tensor([False, False, True])
        >>> find_novel(tops, e, named, lambda n: torch.zeros(99)).novel.tolist()
        [True, False, False]
    """
    p = p_values_by_size(clarity(top_ids, embeddings), (top_ids >= 0).sum(1), null)
    novel = significant(p, fdr) & ~named
    group = torch.full_like(novel, -1, dtype=torch.int64)
    group[novel] = near_copies(top_ids[novel], embeddings).to(group)
    return Novelty(p, novel, group)


def near_copies(top_ids: Tensor, embeddings: Tensor) -> Tensor:
    """Return groups of latents that are as alike as the two halves of one latent's top images.

    Concept vectors are compared without the mean image, which all share. The limit is a cosine that nine of
    ten latents reach between the mean of their top images of even rank and that of odd rank. Scikit-learn's
    agglomerative clustering with average linkage joins latents above this limit.

    Args:
        top_ids: `[m, n]` int64, rows of `embeddings`, the largest activation first; -1 for none.
        embeddings: `[n_images, d]` unit image embeddings of the judge.

    Returns:
        `[m]` int64 on the CPU, the largest group is 0.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> near_copies(torch.tensor([[2, 3], [0, 1], [1, 0]]), e).tolist()
        [1, 0, 0]
    """
    if len(top_ids) < 2:
        return torch.zeros(len(top_ids), dtype=torch.int64)
    mean = embeddings.mean(0)
    whole, even, odd = (
        concept_vectors(ids, embeddings) - mean for ids in (top_ids, top_ids[:, ::2], top_ids[:, 1::2])
    )
    limit = cosine_similarity(even, odd).nanquantile(_FARTHEST).item()
    clusters = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=1 - limit
    )
    return _largest_first(clusters.fit_predict(whole.double().cpu().numpy()))


def _largest_first(labels: NDArray[np.int64]) -> Tensor:
    """Return the same groups, numbered by size; groups of equal size keep the order of their first latent."""
    _, first, place, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return torch.from_numpy(number[place])
