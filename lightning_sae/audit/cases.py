"""The classes one by one: their cues, and of which kind each culprit is."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.cues import Cues, Limits
from lightning_sae.audit.kinds import Case, Decided, decide
from lightning_sae.audit.meaning import Judged
from lightning_sae.audit.ranking import Ranking
from lightning_sae.audit.seen import Seen
from lightning_sae.audit.subjects import Subjects
from lightning_sae.audit.words import Reading

PRIORITY = ("compound", "polysemous", "typographic", "spurious", None)
OF_THINGS = ("compound", "polysemous")  # kinds whose culprits stand for one other thing
SAME = 0.5  # of a latent's attribution on the images of another, from which both are one cause


class CulpritLatent(NamedTuple):
    """A latent that drives a class for a wrong reason.

    Attributes:
        latent: its number.
        score: how strongly it is a culprit, > 0.
        decided: kind and tests of its cause.
    """

    latent: int
    score: float
    decided: Decided


def make_case(
    phrase: str,
    cue: Cues,
    subjects: Subjects,
    judged: Judged,
    detects: Tensor,
    reading: Reading,
    word: int,
    limits: Limits,
) -> Case:
    """What the tests of a class look at; `word` is the place of its word in the reading."""
    return Case(
        phrase=phrase,
        subjects=subjects,
        thing=cue.thing,
        thing_share=cue.thing_share,
        detects=detects,
        reading=reading,
        word=word,
        by_errors=cue.by_errors,
        alignment=judged.alignment[:, cue.c],
        threshold=judged.threshold[:, cue.c],
        otherwise=judged.otherwise(cue.c, phrase),
        errors_called=judged.called(cue.errors, cue.c),
        limits=limits,
    )


def culprits_of(case: Case, cue: Cues, ranking: Ranking, seen: Seen) -> list[CulpritLatent]:
    """The culprits of a class, the largest score first.

    Latents that drive the class on the same images are one cause. Of those that mark wrong predictions well
    each is tested; the cause is of the first kind that any of them passes, in the order of `decide`. Where it
    stands for one other thing, the score of a latent fades with its AUROC for the thing.
    """
    score, limits = ranking.score, case.limits
    able = score.argsort(descending=True, stable=True)[: int((score > 0).sum())].tolist()
    found = []
    for cause in same_cause(seen, cue, able):
        leads = [j for j in cause if not cue.by_errors or cue.marks[j] >= limits.detects]
        decided = [kind for j in leads if (kind := decide(case, j)).kind is not None]
        if decided:
            kind = min(decided, key=lambda one: PRIORITY.index(one.kind))  # of equals the strongest latent's
            of_thing = kind.kind in OF_THINGS
            weights = limits.faded(case.detects[cue.thing, cause]) if of_thing else torch.ones(len(cause))
            scores = (score[cause] * weights).tolist()
            found += [CulpritLatent(j, s, kind) for j, s in zip(cause, scores, strict=True) if s > 0]
    return sorted(found, key=lambda culprit: -culprit.score)


def same_cause(seen: Seen, cue: Cues, latents: Sequence[int]) -> list[list[int]]:
    """Groups of latents that drive the class on the same images: one cause that several latents carry.

    A latent joins the first group whose first latent drives the class on images that have at least half of
    its own positive attribution.

    Args:
        seen: the images.
        cue: of the class.
        latents: the worst first.
    """
    rows = _driven(seen, cue)
    drives = _columns(seen, rows, latents).clamp(min=0)
    groups: list[list[int]] = []
    for place, j in enumerate(latents):
        for group in groups:
            lead = drives[latents.index(group[0])] > 0
            if drives[place][lead].sum() >= SAME * drives[place].sum():
                group.append(j)
                break
        else:
            groups.append([j])
    return groups


def driven_images(seen: Seen, cue: Cues, latent: int, most: int) -> list[int]:
    """Ids of the images on which it drives the class most: wrong predictions, where there are enough."""
    rows = _driven(seen, cue)
    (drive,) = _columns(seen, rows, [latent])
    best = drive.argsort(descending=True, stable=True)[: min(most, int((drive > 0).sum()))]
    return [int(i) for i in seen.attributed[rows][best]]


def _driven(seen: Seen, cue: Cues) -> Tensor:
    """`[m]` bool: attributed images that the attribution of the cue is the mean over."""
    return (cue.errors if cue.by_errors else seen.predicted == cue.c)[seen.attributed]


def _columns(seen: Seen, rows: Tensor, latents: Sequence[int]) -> Tensor:
    """`[len(latents), m]`: attributions of a few latents on the chosen images."""
    some = torch.tensor(latents, dtype=torch.int64, device=rows.device)
    return seen.attributions.keep(rows).columns(some).to_dense().T
