"""Labels shuffled over the latents: the score of a label that belongs to another latent."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def permuted(index: Tensor, seed: int) -> Tensor:
    """Return the labels in another order, among the latents that have one.

    Args:
        index: `[d_sae]` int64 into the vocabulary, -1 for none.
        seed: seed of the order.

    Example:
        >>> permuted(torch.tensor([5, -1, 6, 7]), seed=0).tolist()
        [7, -1, 5, 6]
    """
    labels = index[index >= 0]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = index.clone()
    shuffled[index >= 0] = labels[order.to(index.device)]
    return shuffled


def mean_alignment(vectors: Tensor, index: Tensor, texts: Tensor, empty: Tensor) -> Tensor:
    """Return the alignment of each latent with a label of any latent: its mean over all permutations.

    `mean_i s_j(t_i)`, over the latents `i` that have a label.

    Args:
        vectors: `[d_sae, d]` concept vectors.
        index: `[d_sae]` int64 into `texts`, the labels; -1 for none.
        texts: `[V, d]` unit text embeddings.
        empty: `[d]` unit embedding of the empty prompt.

    Returns:
        `[d_sae]` in [-2, 2]; NaN for a latent without images.

    Example:
        >>> scores = mean_alignment(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), torch.zeros(2))
        >>> scores.tolist()
        [0.5, 0.5]
    """
    text = texts[index[index >= 0]].mean(0)
    return normalize(vectors, dim=-1) @ (text - empty)
