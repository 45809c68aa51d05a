"""Cues of a class: the latents that drive it where it is wrong, or without meaning it."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.seen import Seen, class_means
from lightning_sae.metrics import sparse_auroc


class Limits(NamedTuple):
    """From which size on something counts.

    Attributes:
        min_images: a class with fewer attributed images gets no verdict.
        min_errors: wrong predictions of a class that are enough to see what they share.
        marks: AUROC with which a latent must tell the wrong predictions from other images, in [0.5, 1].
        fades: AUROC below which it plays no part beside one that reaches `marks`.
        share: of the positive attribution that a culprit has at least, where there are errors to look at.
        unexpected_share: the same where there are none, and the latent only does not mean the class.
        culprits: of a class at most.
    """

    min_images: int = 20
    min_errors: int = 10
    marks: float = 0.9
    fades: float = 0.8
    share: float = 0.005
    unexpected_share: float = 0.25
    culprits: int = 5


class Cues(NamedTuple):
    """What drives one class.

    Attributes:
        c: the class.
        images: attributed images that are predicted as the class.
        errors: `[n]` bool, images that are predicted as the class and show something else.
        attribution: `[d_sae]`, mean attribution to the class over the errors, or over all `images` where
            there are too few errors.
        share: `[d_sae]`, of the positive part of it.
        marks: `[d_sae]` in [0, 1], AUROC of the latent for errors against the other images without the class;
            NaN where there are too few, and for latents with too small a share to be culprits.
        score: `[d_sae]` >= 0, by which latents are ranked: the attribution of those that can be culprits.
        by_errors: whether there were enough errors.
    """

    c: int
    images: int
    errors: Tensor
    attribution: Tensor
    share: Tensor
    marks: Tensor
    score: Tensor
    by_errors: bool


def find_cues(seen: Seen, c: int, shows: Tensor, unexpected: Tensor, limits: Limits) -> Cues:
    """Latents that drive class `c` without being what it means.

    Where the class is predicted on at least `min_errors` images of something else, `E`, the attribution of a
    latent is `f_j = mean_{i in E} R_ij`, and it is a cue if it also marks them: its activation tells `E` from
    the other images that do not show `c` with an AUROC of at least `marks`. Its score is `f_j`, fading to 0
    at `fades`. Elsewhere, as in data that share the bias, it is a cue if its attribution over all images
    predicted as `c` is positive and it does not mean the class (Dreyer et al. 2025, arXiv 2505.20229).

    Args:
        seen: the images.
        c: the class.
        shows: `[n]` bool, the images that do show it.
        unexpected: `[d_sae]` bool, latents that do not mean the class.
        limits: from which size on something counts.
    """
    errors = (seen.predicted == c) & ~shows
    of_image = torch.where(errors, 1, torch.where(seen.predicted == c, 0, -1))[seen.attributed]
    n_errors, n = int((of_image == 1).sum()), int((of_image >= 0).sum())
    by_errors = n_errors >= limits.min_errors
    group = (of_image == 1) if by_errors else (of_image >= 0)
    attribution = class_means(seen.attributions, torch.where(group, 0, -1), 1)[0].nan_to_num().cpu()
    share = attribution.clamp(min=0) / attribution.clamp(min=0).sum().clamp(min=1e-12)
    marks = torch.full_like(attribution, torch.nan)
    if by_errors:
        able = (share >= limits.share).nonzero().flatten()  # few: to rank all for every class takes hours
        marks[able] = sparse_auroc(seen.latents.columns(able).keep(~shows), errors[~shows]).float().cpu()
        weight = ((marks - limits.fades) / (limits.marks - limits.fades)).clamp(0, 1).nan_to_num(nan=0.0)
    else:
        weight = (unexpected & (share >= limits.unexpected_share)).float()
    score = attribution.clamp(min=0) * weight
    return Cues(c, n, errors, attribution, share, marks, score, by_errors)
