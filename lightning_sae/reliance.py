"""Unexpected reliance: latents that drive the score of a class and do not mean the class."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.significance import fixed_text_null


class Reliance(NamedTuple):
    """Unexpected reliance of every class.

    Attributes:
        u: `[C, d_sae]` >= 0, mean attribution where it is unexpected, else 0; culprits are the largest.
        share: `[C]` in [0, 1], `sum_j u_j / sum_j max(0, r_j)`; NaN where a class has not enough images or no
            positive attribution.
        overall: scalar, mean share of the other classes; NaN if there are none.
    """

    u: Tensor
    share: Tensor
    overall: Tensor


def calibrated_threshold(
    judge_embeddings: Tensor,
    texts: Tensor,
    empty: Tensor,
    n: int = 20,
    quantile: float = 0.999,
    draws: int = 1000,
    seed: int = 0,
) -> Tensor:
    """The alignment with a text that only few random image sets reach.

    Quantile of `s(t)` over `draws` sets of `n` different images each. A latent below it is no better
    aligned with `t` than images picked blindly.

    Args:
        judge_embeddings: `[n_images, d]` unit image embeddings of the judge.
        texts: `[C, d]` unit text embeddings, such as the class names'.
        empty: `[d]` unit embedding of the empty prompt.
        n: images in a set, the number of top images of a latent.
        quantile: in [0, 1], linear between draws.
        draws: number of random sets.
        seed: of the draws.

    Returns:
        `[C]` in [-2, 2].

    Raises:
        ValueError: `n` is not in `1..n_images`.

    Example:
        >>> calibrated_threshold(torch.eye(2), torch.tensor([[0.6, 0.8]]), torch.zeros(2), n=1, quantile=1.0)
        tensor([0.8000])
    """
    return fixed_text_null(judge_embeddings, texts, empty, n, draws, seed).quantile(quantile, dim=0)


def unexpected_reliance(
    mean_attribution: Tensor, counts: Tensor, scores: Tensor, thresholds: Tensor, min_images: int = 20
) -> Reliance:
    """Splits the positive attribution to a class into expected and unexpected.

    Latent `j` is unexpected for class `c` if `r_j > 0` and `s_j(c) < threshold_c`. After Dreyer et al.
    2025, arXiv 2505.20229.

    Args:
        mean_attribution: `[C, d_sae]`, mean attribution to the score of each class (images predicted as it).
        counts: `[C]` int64, images behind each mean.
        scores: `[d_sae, C]` alignment of the latents with the class names, under the judge.
        thresholds: `[C]`, `calibrated_threshold` of the class names, or `[d_sae, C]` where the latents have
            different numbers of top images; NaN, as a score of NaN, makes none unexpected.
        min_images: a class with fewer is not judged: `u` is 0 and its share NaN.

    Example:
        >>> r, scores = torch.tensor([[3.0, 1.0, -2.0]]), torch.tensor([[0.0], [0.5], [0.0]])
        >>> unexpected_reliance(r, torch.tensor([20]), scores, torch.tensor([0.1]))
        Reliance(u=tensor([[3., 0., 0.]]), share=tensor([0.7500]), overall=tensor(0.7500))
    """
    enough = counts >= min_images
    unexpected = (mean_attribution > 0) & (scores < thresholds).T & enough[:, None]
    u = torch.where(unexpected, mean_attribution, 0.0)
    share = torch.where(enough, u.sum(1) / mean_attribution.clamp(min=0).sum(1), torch.nan)
    return Reliance(u, share, share.nanmean())


def culprits(reliance: Reliance, mean_attribution: Tensor, counts: Tensor, top: int) -> pd.DataFrame:
    """The unexpected latents of each class, the largest `u_j` first; the largest share's class first.

    Args:
        reliance: of `unexpected_reliance`.
        mean_attribution: `[C, d_sae]`, what it was made from.
        counts: `[C]`, what it was made from.
        top: latents per class.

    Returns:
        Columns `class` (its number), `images`, `class_share`, `latent`, `attribution` (`u_j`) and `share`
        (`u_j` of the positive attribution).

    Example:
        >>> r = torch.tensor([[3.0, 1.0, -2.0]])
        >>> found = unexpected_reliance(r, torch.tensor([20]), torch.zeros(3, 1), torch.tensor([0.1]))
        >>> culprits(found, r, torch.tensor([20]), top=1)[["class", "latent", "share"]].values.tolist()
        [[0.0, 0.0, 0.75]]
    """
    best = reliance.u.topk(min(top, reliance.u.shape[1]), dim=1)
    order = reliance.share.nan_to_num(nan=-1).argsort(descending=True, stable=True)
    place, rank = (best.values[order] > 0).nonzero(as_tuple=True)
    of_class = order[place]
    u, positive = best.values[of_class, rank], mean_attribution.clamp(min=0).sum(1)[of_class]
    columns = {"class": of_class, "images": counts[of_class], "class_share": reliance.share[of_class]}
    columns |= {"latent": best.indices[of_class, rank], "attribution": u, "share": u / positive}
    return pd.DataFrame({name: column.tolist() for name, column in columns.items()})
