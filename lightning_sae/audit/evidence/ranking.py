"""The scores by which the latents of a class are ranked."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.methods import attribute_own
from lightning_sae.audit.evidence.cues import Cues, Limits, positive_shares, ramp
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.classifiers.scores import ClassScores

SHARED = 0.1  # what is left of the score of a latent that is as active on images of the class itself
CHANCE, DETECTS = 0.5, 0.9  # AUROC, from which a latent counts a little, and in full


class Ranking(NamedTuple):
    """The latents of a class.

    Attributes:
        attribution: `[d_sae]`, mean attribution to the class, over the images that count for the latent.
        share: `[d_sae]` in [0, 1], of the positive part of that.
        score: `[d_sae]` >= 0, how strongly it is a culprit; 0 for none.
    """

    attribution: Tensor
    share: Tensor
    score: Tensor


def rank(cue: Cues, detects: Tensor, on_thing: Tensor | None, unexpected: Tensor, limits: Limits) -> Ranking:
    """Return how strongly each latent is a culprit of a class.

    With errors, `score_j = max(0, R_j) * marks_j * (0.1 + 0.9 * foreign_j)`: `R_j` is the mean attribution
    over the errors, or, for a detector of the one other thing that they show, over all images of the thing;
    `marks_j` and `foreign_j` rise from 0 to 1 as the AUROC of the latent for errors, against other images
    without the class and against images of the class, goes from 0.5 to 0.9. Without errors, a latent that
    does not mean the class and has a large share of what drives it scores `R_j`.

    Args:
        cue: of the class.
        detects: `[S, d_sae]`, AUROC of each latent for the images of each subject.
        on_thing: `[d_sae]`, mean attribution over all images of the thing; `None` without a thing.
        unexpected: `[d_sae]` bool, latents that do not mean the class.
        limits: from which size on something counts.
    """
    attribution, share = cue.attribution, positive_shares(cue.attribution)
    if not cue.by_errors:
        able = unexpected & (share >= limits.unexpected_share)
        return Ranking(attribution, share, torch.where(able, attribution.clamp(min=0), 0.0))
    if on_thing is not None:
        of_thing = limits.faded(detects[cue.thing]) > 0
        attribution = torch.where(of_thing, on_thing.nan_to_num(), attribution)
        share = torch.where(of_thing, positive_shares(on_thing.nan_to_num()), share)
    foreign = SHARED + (1 - SHARED) * ramp(cue.foreign.nan_to_num(nan=1.0), CHANCE, DETECTS)
    score = attribution.clamp(min=0) * ramp(cue.marks, CHANCE, DETECTS) * foreign
    return Ranking(attribution, share, torch.where(share >= limits.share, score, 0.0))


@torch.no_grad()
def attribution_on_things(
    seen: SplitView, scores: ClassScores, subjects: Subjects, cues: Sequence[Cues]
) -> dict[int, Tensor]:
    """Return the mean attribution to a class over all images of its thing.

    Images of the thing that are predicted otherwise count as well.

    Args:
        seen: the images.
        scores: of the classes.
        subjects: what they show.
        cues: of the classes; one without a thing is left out.

    Returns:
        Class -> `[d_sae]`; NaN where no image of the thing can be attributed.
    """
    wanted = [cue for cue in cues if cue.thing >= 0]
    sums = {cue.c: torch.zeros(seen.latents.d_sae, dtype=torch.float64) for cue in wanted}
    counts = dict.fromkeys(sums, 0)
    for explained in seen.explained if wanted else ():
        assert explained.image_ids is not None
        subject = subjects.subject.to(explained.image_ids.device)[explained.image_ids]
        for cue in wanted:
            some = explained.keep(subject == cue.thing)
            if len(some.x):
                values = attribute_own(some, scores, torch.full_like(subject[: len(some.x)], cue.c))
                sums[cue.c].index_add_(0, values.indices.cpu(), values.values.double().cpu())
                counts[cue.c] += len(some.x)
    return {c: (total / counts[c]).float() for c, total in sums.items()}
