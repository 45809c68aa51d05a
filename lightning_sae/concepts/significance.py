"""Could it be chance? What random sets of images reach, p-values, and Benjamini-Hochberg."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.stats import false_discovery_control, norm
from torch import Tensor

from lightning_sae.concepts.alignment import concept_vectors


def random_image_sets(n_images: int, n: int, draws: int, seed: int = 0) -> Tensor:
    """Return random sets of `n` different images, each set equally likely.

    All sets are drawn at once by Floyd's algorithm: Bentley and Floyd 1987, Communications of the ACM 30(9).

    Args:
        n_images: images to draw from.
        n: images in a set.
        draws: number of sets.
        seed: of the draws.

    Returns:
        `[draws, n]` int64 in `0..n_images-1`.

    Raises:
        ValueError: `n` is not in `1..n_images`, or there are no draws.

    Example:
        >>> random_image_sets(n_images=4, n=4, draws=1).sort().values
        tensor([[0, 1, 2, 3]])
    """
    if not 1 <= n <= n_images:
        raise ValueError(f"a random set must hold 1..{n_images} of the images, got {n}: lower the top images")
    if draws < 1:
        raise ValueError(f"draws, the number of random sets, must be at least 1, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    sets = torch.empty(draws, n, dtype=torch.int64)
    for i, last in enumerate(range(n_images - n, n_images)):
        pick = torch.randint(last + 1, (draws,), generator=generator)
        taken = (sets[:, :i] == pick[:, None]).any(1)
        sets[:, i] = torch.where(taken, last, pick)
    return sets


class Chance(NamedTuple):
    """The cosine with each of some texts over all images: what random images have.

    Attributes:
        mean: `[V]`, of the cosine.
        variance: `[V]`, of the cosine.
        images: how many.
    """

    mean: Tensor
    variance: Tensor
    images: int

    def standardise(self, agreement: Tensor, n: int | Tensor) -> Tensor:
        """Return how many standard deviations an agreement lies above that of random sets.

        `z = (m - mean) / sqrt(variance / n * (N - n) / (N - 1))`, the exact mean and variance of the mean of
        `n` of `N` images, drawn without replacement (Cochran 1977, Sampling Techniques, theorem 2.2).

        Args:
            agreement: `[..., V]`, mean cosines of sets of images with the texts.
            n: images in a set; a tensor `[..., 1]` where the sets differ.

        Returns:
            As `agreement`; NaN where all sets have the same.

        Example:
            >>> chance = Chance(torch.tensor([0.5]), torch.tensor([0.25]), images=5)
            >>> chance.standardise(torch.tensor([1.0]), 4)
            tensor([4.])
        """
        n = torch.as_tensor(n, dtype=agreement.dtype, device=agreement.device)
        variance = self.variance * (self.images - n) / (n * max(self.images - 1, 1))
        return (agreement - self.mean) / variance.where(variance > 0, torch.nan).sqrt()


def chance_of(embeddings: Tensor, texts: Tensor) -> Chance:
    """Return mean and variance of `<e_i, t>` over the images, without ever holding `[n_images, V]`.

    Args:
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        texts: `[V, d]` unit text embeddings.

    Example:
        >>> chance_of(torch.eye(2), torch.tensor([[0.6, 0.8]])).variance
        tensor([0.0100])
    """
    mean = embeddings.mean(0)
    centred = (embeddings - mean).double()
    covariance = (centred.T @ centred / len(embeddings)).to(texts)
    return Chance(texts @ mean, ((texts @ covariance) * texts).sum(1).clamp(min=0), len(embeddings))


def label_z(vectors: Tensor, sizes: Tensor, index: Tensor, texts: Tensor, embeddings: Tensor) -> Tensor:
    """Return how far the agreement of latents with their labels lies above that of random images.

    The agreement is linear in the images: the mean of `<e_i, t>` over the top images.

    Args:
        vectors: `[d_sae, d]`, mean embedding of each latent's top images.
        sizes: `[d_sae]` int64, how many they are.
        index: `[d_sae]` int64 into `texts`, the label; -1 for none.
        texts: `[V, d]` unit text embeddings.
        embeddings: `[n_images, d]` unit image embeddings of the judge.

    Returns:
        `[d_sae]`, in standard deviations, as in `Chance.standardise`; NaN without a label.

    Example:
        >>> e = torch.eye(2)
        >>> label_z(e[:1], torch.tensor([1]), torch.tensor([0]), e, e)
        tensor([1.])
    """
    chosen = index.clamp(min=0)
    used, place = torch.unique(chosen, return_inverse=True)
    chance = chance_of(embeddings, texts[used])
    own = Chance(chance.mean[place], chance.variance[place], chance.images)
    z = own.standardise((vectors * texts[chosen]).sum(1), sizes.clamp(min=1))
    return z.masked_fill(index < 0, torch.nan)


def best_label_null(
    embeddings: Tensor, texts: Tensor, n: int, draws: int = 1000, seed: int = 0, chunk_size: int = 1024
) -> Tensor:
    """Return the best standardised agreement over a vocabulary that each of some random image sets has.

    Args:
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        texts: `[V, d]` unit text embeddings of the vocabulary.
        n: images in a set, as many as the latent has top images.
        draws: number of random sets.
        seed: of the draws.
        chunk_size: sets at a time; memory grows with `chunk_size * V`.

    Returns:
        `[draws]`, the largest z; `-inf` where no z is defined.

    Example:
        >>> best_label_null(torch.eye(2), torch.eye(2), n=1, draws=3)
        tensor([1., 1., 1.])
    """
    sets, chance = random_image_sets(len(embeddings), n, draws, seed), chance_of(embeddings, texts)
    vectors = concept_vectors(sets.to(embeddings.device), embeddings)
    best = [
        chance.standardise(some @ texts.T, n).nan_to_num(nan=-torch.inf).amax(1)
        for some in torch.split(vectors, chunk_size)
    ]
    return torch.cat(best)


def p_values(scores: Tensor, null: Tensor) -> Tensor:
    """Return the chance of a score at least as large: `(1 + #{null >= score}) / (1 + draws)`.

    The score itself counts as a draw, so no p-value is 0: North, Curtis and Sham 2002, American Journal of
    Human Genetics 71.

    Args:
        scores: of any shape.
        null: `[draws]`.

    Returns:
        As `scores`, float64 in `[1 / (1 + draws), 1]`; NaN where the score is.

    Example:
        >>> p_values(torch.tensor([0.35, 0.2, 0.0]), torch.tensor([0.1, 0.2, 0.3]))
        tensor([0.2500, 0.7500, 1.0000], dtype=torch.float64)
    """
    reached = len(null) - torch.searchsorted(null.sort().values, scores.contiguous())
    return torch.where(scores.isnan(), torch.nan, (1 + reached.double()) / (1 + len(null)))


def p_values_by_size(scores: Tensor, sizes: Tensor, null: Callable[[int], Tensor]) -> Tensor:
    """Return the p-value of each latent by the null of random sets of as many images as it has.

    Args:
        scores: `[d_sae]`.
        sizes: `[d_sae]` int64, number of top images; NaN results from 0.
        null: size -> `[draws]`.

    Returns:
        `[d_sae]` float64.

    Example:
        >>> p_values_by_size(torch.tensor([0.5, 0.5]), torch.tensor([1, 2]), lambda n: torch.tensor([n / 3]))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    p = torch.full_like(scores, torch.nan, dtype=torch.float64)
    for size in torch.unique(sizes[sizes > 0]).tolist():
        p[sizes == size] = p_values(scores[sizes == size], null(size).to(scores))
    return p


def significant(p: Tensor, fdr: float = 0.05) -> Tensor:
    """Return which of many hypotheses to keep.

    At most a share `fdr` of the kept hypotheses is expected to be chance. Benjamini and Hochberg 1995,
    Journal of the Royal Statistical Society B 57: for p-values that are independent or positively dependent.

    Args:
        p: `[m]` in [0, 1]; NaN is no hypothesis.
        fdr: false discovery rate, in (0, 1).

    Returns:
        `[m]` bool, False where `p` is NaN.

    Example:
        >>> significant(torch.tensor([0.01, 0.03, 0.04, 0.9]), fdr=0.06)
        tensor([ True,  True,  True, False])
    """
    keep = torch.zeros_like(p, dtype=torch.bool)
    known = ~p.isnan()
    if known.any():
        adjusted = torch.from_numpy(false_discovery_control(p[known].double().cpu().numpy()))
        keep[known] = (adjusted <= fdr).to(p.device)
    return keep


def least_auroc(positives: int, negatives: int, level: float = 0.01) -> float:
    """Return the AUROC that a column which knows nothing exceeds with a probability of `level`.

    `1/2 + z sqrt((m + n + 1) / (12 m n))`, by the normal approximation (Mann and Whitney 1947, Annals of
    Mathematical Statistics 18).

    Args:
        positives: `m`.
        negatives: `n`.
        level: in (0, 1).

    Returns:
        In (0, 1]; 1 where either is missing.

    Example:
        >>> round(least_auroc(50, 1000), 3)
        0.597
    """
    if min(positives, negatives) == 0:
        return 1.0
    spread = math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return min(1.0, 0.5 + float(norm.isf(level)) * spread)
