"""Unexpected reliance: latents that drive the score of a class and do not mean the class."""

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from lightning_sae.concepts.meaning import Meaning


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


class ClassReliance(NamedTuple):
    """Unexpected reliance of the classes, with the meanings that it rests on.

    Attributes:
        reliance: of every class.
        meaning: of the latents, against the names of the classes.
        culprits: a row per class and unexpected latent, the largest first.
    """

    reliance: Reliance
    meaning: Meaning
    culprits: pd.DataFrame


def unexpected_reliance(
    mean_attribution: Tensor, counts: Tensor, foreign: Tensor, min_images: int = 20
) -> Reliance:
    """Split the positive attribution to a class into expected and unexpected.

    Latent `j` is unexpected for class `c` if `r_j > 0` and it does not mean the class. Where it cannot be
    told whether a latent means the class, the latent is not unexpected. After Dreyer et al. 2025, arXiv
    2505.20229.

    Args:
        mean_attribution: `[C, d_sae]`, mean attribution to the score of each class (images predicted as it).
        counts: `[C]` int64, images behind each mean.
        foreign: `[d_sae, C]` bool, latents that do not mean the class: `Meaning.foreign`.
        min_images: a class with fewer is not judged: `u` is 0 and its share NaN.

    Example:
        >>> r, foreign = torch.tensor([[3.0, 1.0, -2.0]]), torch.tensor([[True], [False], [True]])
        >>> unexpected_reliance(r, torch.tensor([20]), foreign)
        Reliance(u=tensor([[3., 0., 0.]]), share=tensor([0.7500]), overall=tensor(0.7500))
    """
    enough = counts >= min_images
    unexpected = (mean_attribution > 0) & foreign.T & enough[:, None]
    u = torch.where(unexpected, mean_attribution, 0.0)
    share = torch.where(enough, u.sum(1) / mean_attribution.clamp(min=0).sum(1), torch.nan)
    return Reliance(u, share, share.nanmean())


def culprits(reliance: Reliance, mean_attribution: Tensor, counts: Tensor, top: int) -> pd.DataFrame:
    """Return the unexpected latents of each class, sorted by the share of the class and then by `u_j`.

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
        >>> found = unexpected_reliance(r, torch.tensor([20]), torch.ones(3, 1, dtype=torch.bool))
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
