"""The classes one by one: what could lead them astray, and of which kind it is."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.evidence.cues import Cues, Limits
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.gaps import Gap
from lightning_sae.audit.evidence.judgement import JudgeView
from lightning_sae.audit.evidence.ranking import Ranking
from lightning_sae.audit.evidence.reading import Reading
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.audit.verdict.kinds import Case, Decided, Looks, decide

PRIORITY = ("compound", "polysemous", "typographic", "spurious", None)
OF_THINGS = ("compound", "polysemous")  # kinds whose culprits stand for one other thing
SAME = 0.5  # of a latent's attribution on the images of another, from which both are one cause


class Suspect(NamedTuple):
    """Latents that drive a class on the same images, for what may be a wrong reason.

    Attributes:
        cue: cue of the class, with the images on which the latents drive it.
        latents: their numbers, the largest score first.
        scores: how strongly each is suspected, > 0.
        decided: kind and tests.
    """

    cue: Cues
    latents: tuple[int, ...]
    scores: tuple[float, ...]
    decided: Decided

    @property
    def thing(self) -> int:
        """The other subject that they stand for, -1 for none."""
        return self.cue.thing if self.decided.kind in OF_THINGS else -1

    def only(self, places: Sequence[int]) -> "Suspect":
        """Return the same with some of its latents alone."""
        latents, scores = tuple(self.latents[i] for i in places), tuple(self.scores[i] for i in places)
        return self._replace(latents=latents, scores=scores)


def make_case(
    phrase: str,
    cue: Cues,
    gap: Gap | None,
    subjects: Subjects,
    judged: JudgeView,
    detects: Tensor,
    reading: Reading,
    word: int,
    limits: Limits,
    looks: dict[int, Looks],
) -> Case:
    """Return what the tests of a class look at; `word` is the place of its word in the reading."""
    return Case(
        phrase=phrase,
        subjects=subjects,
        thing=cue.thing,
        thing_share=cue.thing_share,
        thing_taken=cue.thing_taken,
        detects=detects,
        reading=reading,
        word=word,
        by_errors=cue.by_errors,
        gap=gap,
        marks=cue.marks,
        marked=cue.marked,
        looks=looks,
        errors_called=judged.called(cue.errors.cpu().nonzero().flatten(), cue.c),
        limits=limits,
    )


def look_at(judged: JudgeView, seen: SplitView, cue: Cues, latents: Sequence[int]) -> dict[int, Looks]:
    """Ask the judge about the top images of latents, and the wrong predictions that they drive most.

    Args:
        judged: what it says.
        seen: the images.
        cue: of the class.
        latents: to ask about.
    """
    c, meaning = cue.c, judged.meaning
    most = judged.top_ids.shape[1]
    driven = [driven_images(seen, cue, j, most) if cue.by_errors else [] for j in latents]
    ids = torch.tensor([row + [-1] * (most - len(row)) for row in driven], dtype=torch.int64).view(-1, most)
    errors = judged.of_images(ids, c)
    return {
        j: Looks(
            agreement=float(meaning.agreement[j, c]),
            p_random=float(meaning.p_random[j, c]),
            p_class=float(meaning.p_class[j, c]),
            foreign=bool(meaning.foreign[j, c]),
            errors_p_class=float(errors.p_class[row, 0]),
            errors_below=bool(errors.below_class[row, 0]),
            errors_called=judged.called(torch.tensor(driven[row], dtype=torch.int64), c),
            asked=bool(meaning.asked[c]),
        )
        for row, j in enumerate(latents)
    }


def leads(cue: Cues, ranking: Ranking, limits: Limits) -> list[int]:
    """Return the latents to try that mark the errors, the largest score first; without errors all of them."""
    return [j for j in able(ranking, limits) if not cue.by_errors or cue.marked[j]]


def able(ranking: Ranking, limits: Limits) -> list[int]:
    """Return the latents with the largest scores, as many as are tried."""
    order = ranking.score.argsort(descending=True, stable=True)[: limits.suspects]
    return [j for j in order.tolist() if ranking.score[j] > 0]


def suspects_of(case: Case, cue: Cues, ranking: Ranking, seen: SplitView) -> list[Suspect]:
    """Return the suspects of a class, the largest score first.

    Latents that drive the class on the same images are one cause. Each latent that marks what goes wrong is
    tested. The kind of the cause is the first one, in the order of `decide`, whose tests any of them passes.
    Where the cause stands for one other thing, a latent's score is the lower, the worse it detects the thing.
    """
    score, limits = ranking.score, case.limits
    found = []
    for cause in same_cause(seen, cue, able(ranking, limits)):
        decided = [kind for j in cause if j in case.looks and (kind := decide(case, j)).kind is not None]
        if decided:
            kind = min(decided, key=lambda one: PRIORITY.index(one.kind))  # of equals the strongest latent's
            of_thing = kind.kind in OF_THINGS
            weights = limits.faded(case.detects[cue.thing, cause]) if of_thing else torch.ones(len(cause))
            scores = (score[cause] * weights).tolist()
            kept = sorted(
                (pair for pair in zip(scores, cause, strict=True) if pair[0] > 0), key=lambda p: -p[0]
            )
            found.append(Suspect(cue, tuple(j for _, j in kept), tuple(s for s, _ in kept), kind))
    return sorted(found, key=lambda suspect: -suspect.scores[0])


def same_cause(seen: SplitView, cue: Cues, latents: Sequence[int]) -> list[list[int]]:
    """Return the groups of latents that drive the class on the same images.

    Such a group is one cause that several latents carry. A latent joins the first group whose first latent
    drives the class on images that have at least half of its own positive attribution.

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


def driven_images(seen: SplitView, cue: Cues, latent: int, most: int) -> list[int]:
    """Return the ids of the images on which a latent drives the class most.

    Only wrong predictions are taken, where there are enough of them.
    """
    rows = _driven(seen, cue)
    (drive,) = _columns(seen, rows, [latent])
    best = drive.argsort(descending=True, stable=True)[: min(most, int((drive > 0).sum()))]
    return [int(i) for i in seen.attributed[rows][best]]


def _driven(seen: SplitView, cue: Cues) -> Tensor:
    """Return `[m]` bool: attributed images that the attribution of the cue is the mean over."""
    return (cue.errors if cue.by_errors else seen.predicted == cue.c)[seen.attributed]


def _columns(seen: SplitView, rows: Tensor, latents: Sequence[int]) -> Tensor:
    """Return `[len(latents), m]`: attributions of a few latents on the chosen images."""
    some = torch.tensor(latents, dtype=torch.int64, device=rows.device)
    return seen.attributions.keep(rows).columns(some).to_dense().T
