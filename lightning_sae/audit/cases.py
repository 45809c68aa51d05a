"""The classes one by one: their cues, and of which kind each culprit is."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.cues import Cues, Limits
from lightning_sae.audit.kinds import ONE_THING, Case, Decided, decide
from lightning_sae.audit.meaning import Judged
from lightning_sae.audit.seen import Seen, class_means
from lightning_sae.audit.subjects import Subjects
from lightning_sae.audit.words import Reading
from lightning_sae.metrics import ActiveRanks

OF_THINGS = ("polysemous", "compound")  # kinds whose culprits stand for one other thing
FADES = 0.8  # AUROC for that thing from which a latent plays a part in its cause
SAME = 0.5  # of a latent's attribution on the images of another, from which both are one cause


class CulpritLatent(NamedTuple):
    """A latent that drives a class for a wrong reason.

    Attributes:
        latent: its number.
        score: how strongly it is a culprit, > 0.
        thing: the other subject on whose images its cause drives the class most.
        decided: kind and tests of its cause.
    """

    latent: int
    score: float
    thing: str
    decided: Decided


def make_case(
    c: int,
    phrase: str,
    cue: Cues,
    seen: Seen,
    subjects: Subjects,
    judged: Judged,
    reading: Reading,
    word: int,
) -> Case:
    """What the tests of class `c` look at; `word` is the place of its word in the reading."""
    n_subjects, latents = len(subjects.names), (cue.score > 0).nonzero().flatten()
    subject = subjects.subject.to(seen.predicted.device)
    of_error = torch.where(cue.errors & cue.by_errors, subject, -1)[seen.attributed]
    counts = torch.bincount(of_error[of_error >= 0], minlength=n_subjects)
    means = class_means(seen.attributions.columns(latents), of_error, n_subjects).nan_to_num()
    positive = (means * counts[:, None]).clamp(min=0).cpu()
    return Case(
        phrase=phrase,
        subjects=subjects,
        latents=latents.tolist(),
        detects=ActiveRanks.of(seen.latents.columns(latents)).aurocs(subject, n_subjects).cpu().float(),
        error_share=positive / positive.sum(0).clamp(min=1e-12),
        reading=reading,
        word=word,
        alignment=judged.alignment[:, c],
        threshold=judged.threshold[:, c],
        errors_called=judged.called(cue.errors, c),
    )


def culprits_of(case: Case, cue: Cues, seen: Seen, limits: Limits) -> list[CulpritLatent]:
    """The culprits of a class, the largest score first.

    Latents that drive the class on the same images are one cause: it is of the kind of the first of them that
    marks the wrong predictions well and passes the tests of a kind. Where that stands for one other thing,
    the score of a latent fades as its AUROC for the thing falls from 0.9 to 0.8.
    """
    able = cue.score.argsort(descending=True, stable=True)[: int((cue.score > 0).sum())].tolist()
    found = []
    for cause in same_cause(seen, cue, able):
        leads = [j for j in cause if not cue.by_errors or cue.marks[j] >= limits.marks]
        decided = [(j, kind) for j in leads if (kind := decide(case, j)).kind is not None]
        if decided:
            lead, kind = decided[0]
            found += _members(case, cue, cause, case.thing(lead), kind)
    return sorted(found, key=lambda culprit: -culprit.score)


def _members(
    case: Case, cue: Cues, cause: Sequence[int], thing: int, decided: Decided
) -> list[CulpritLatent]:
    weights = torch.ones(len(cause))
    if decided.kind in OF_THINGS:
        detects = torch.tensor([case.detection(thing, j) for j in cause])
        weights = ((detects - FADES) / (ONE_THING - FADES)).clamp(0, 1)
    scores = (cue.score[cause] * weights).tolist()
    name = case.subjects.names[thing]
    return [CulpritLatent(j, s, name, decided) for j, s in zip(cause, scores, strict=True) if s > 0]


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
    return seen.attributions.keep(rows).columns(torch.tensor(latents, dtype=torch.int64)).to_dense().T
