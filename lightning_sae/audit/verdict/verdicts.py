"""Culprit, part of the class, or not to be told: what removing suspects does decides."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.ablation import Removal
from lightning_sae.attribution.explained import Explained
from lightning_sae.audit.evidence.cues import HALF
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.gaps import Factors
from lightning_sae.audit.evidence.removal import UNKNOWN, BootstrapEstimate, Cells, net_effect, share_change
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.audit.verdict.cases import Suspect
from lightning_sae.audit.verdict.margins import Margins, margins_without
from lightning_sae.audit.verdict.sides import TELLS, Sides, find_sides
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.concepts.meaning import TELLS as TELLS_CLASS
from lightning_sae.concepts.significance import significant
from lightning_sae.metrics import auroc

FDR = 0.05  # of the culprits among all suspects of an audit


class Sample(NamedTuple):
    """The attributed images, for one class and some latents.

    Attributes:
        own: `[m]` bool, images that show the class; the others do not.
        sides: with the cue and without it, `[m]`.
        known: `[m]` bool, images of which the data know the class.
    """

    own: Tensor
    sides: Sides
    known: Tensor

    def others_with_cue(self) -> int:
        """Return how many images of other classes have the cue: on them a false positive can be seen."""
        return int((~self.own & self.sides.cue).sum())

    def cells(self, min_group: int) -> Cells:
        """Return the class and the others, each divided by the cue.

        A cue thus gains nothing by occurring with the class. Other images with the cue count as much as those
        without it, however few they are, because the cue does harm on them. Images of the class are divided
        only where the data know the cue: images on which latents are silent may be missed for another reason.
        """
        divides = self.sides.divides
        own = _parts(self.own, divides, min_group) if self.sides.known else (self.own,)
        return Cells(own, _parts(~self.own, divides, min_group))


def _parts(images: Tensor, cue: Tensor, min_group: int) -> tuple[Tensor, ...]:
    """Return the images with the cue and those without it if both are enough, else all as one part."""
    parts = (images & cue, images & ~cue)
    return parts if min(int(part.sum()) for part in parts) >= min_group else (images,)


class Tried(NamedTuple):
    """A suspect whose removal was tried.

    Attributes:
        suspect: all its latents.
        helpful: the suspect's latents that are not found to be a part of the class when removed alone.
        sample: the images.
        net: what removing the helpful latents together gains.
        each: what removing each latent of the suspect alone gains.
        taken: by how much the false positives with the cue fall when all of the suspect is removed.
        taken_by_helpful: the same for the helpful ones alone.
        apart: whether enough images of other classes have the cue.
        sure: whether the interval of the gain is above 0, and it is more than chance among all suspects.
        of_things: latents that are labelled as a class or another subject.
        class_auroc: how well the class is told from the others without the helpful latents, in [0, 1].
    """

    suspect: Suspect
    helpful: Suspect
    sample: Sample
    net: BootstrapEstimate
    each: tuple[BootstrapEstimate, ...]
    taken: BootstrapEstimate
    taken_by_helpful: BootstrapEstimate
    apart: bool
    sure: bool
    of_things: frozenset[int]
    class_auroc: float

    @property
    def verdict(self) -> Literal["culprit", "part of the class", "cannot be told"]:
        """Judge by the interval of the net effect, or by the data where they show what goes wrong.

        Where the data do not know the cue, a suspect is no culprit in two cases. If the first of its helpful
        latents is labelled as a class or another subject, that latent may be a poor detector as well as a
        wrong reason. If the class is hardly told from the others even without these latents, there is no
        right reason that they could stand in the way of.
        """
        if self.shown or (self.apart and self.sure and not self.led_by_thing and self.class_known):
            return "culprit"
        parts = not self.helpful.latents or self.net.high < 0
        return "part of the class" if self.apart and parts else "cannot be told"

    @property
    def led_by_thing(self) -> bool:
        """Return whether the first of the helpful latents is labelled as a class, and no cue is known."""
        return not self.sample.sides.known and not self.of_things.isdisjoint(self.helpful.latents[:1])

    @property
    def class_known(self) -> bool:
        """True if the class is told from the others without the helpful latents, or the data know the cue.

        The limit is that of a judge. Where the data know the cue, what it does is seen on images with it and
        without it, however poorly the class is told.
        """
        return self.sample.sides.known or self.class_auroc >= TELLS_CLASS

    def only(self, latents: Sequence[int]) -> "Tried":
        """Return the same about some of its latents alone."""
        places = [i for i, j in enumerate(self.suspect.latents) if j in latents]
        helpful = [i for i, j in enumerate(self.helpful.latents) if j in latents]
        return self._replace(
            suspect=self.suspect.only(places),
            helpful=self.helpful.only(helpful),
            each=tuple(self.each[i] for i in places),
        )

    @property
    def shown(self) -> bool:
        """True if the data show that the suspect leads the class astray, though removing it may not help.

        The class is predicted on most images of the one other thing that the suspect stands for; or more
        often in a group that the data know, and less often there without the suspect. Where the same latents
        stand for both, none of them can go, and the prompt or the class vector is what has to change.
        """
        if self.suspect.cue.group is not None:
            return self.taken.low > 0
        return self.suspect.thing >= 0 and self.suspect.cue.thing_taken >= HALF

    @property
    def culprits(self) -> Suspect:
        """The latents that the finding is about: the helpful ones if removing them helps, else all of them.

        For a group that the data know, latents that stand for it are added, though the class needs them.
        """
        if self.suspect.thing >= 0 or not (self.sure or self.taken_by_helpful.low > 0):
            return self.suspect
        cue, kept = self.suspect.cue, set(self.helpful.latents)
        if cue.group is not None:
            kept |= {j for j in self.suspect.latents if cue.marks[j] >= TELLS}
        return self.suspect.only([i for i, j in enumerate(self.suspect.latents) if j in kept])


def each_once(tried: Sequence[Tried]) -> list[Tried]:
    """Return the suspects, culprits first, with every latent of a class only in its first suspect.

    A suspect comes the earlier, the more false positives it makes on images with its cue. Ties go to a
    suspect whose group the data know, and a suspect without any such images comes last.
    """

    def place(one: Tried) -> tuple[bool, bool, float, bool]:
        taken = one.taken.value
        return one.verdict != "culprit", math.isnan(taken), -taken, one.suspect.cue.group is None

    first = sorted(tried, key=place)
    seen: set[tuple[int, int]] = set()
    kept = []
    for one in first:
        c = one.suspect.cue.c
        new = [j for j in one.suspect.latents if (c, j) not in seen]
        seen |= {(c, j) for j in (one.culprits.latents if one.verdict == "culprit" else new)}
        left = one.only(new)
        if left.culprits.latents if one.verdict == "culprit" else new:
            kept.append(left)
    return kept


def sample_of(
    seen: SplitView, subjects: Subjects, factors: Factors, suspect: Suspect, min_group: int
) -> Sample:
    """Return the attributed images as a class and some latents divide them.

    Args:
        seen: the images.
        subjects: what they show.
        factors: of all images: factor -> (its values, `[n]` int64, -1 for none).
        suspect: with its class, and the group or the other thing that is its cue; the activity of its latents
            tells the cue, where it has neither.
        min_group: images of the others that a value has, and lacks, at least.
    """
    rows, c, group = seen.attributed.cpu(), suspect.cue.c, suspect.cue.group
    own, known = subjects.show(c).cpu()[rows], subjects.known.cpu()[rows]
    if suspect.thing >= 0:
        shown = subjects.subject.cpu()[rows] == suspect.thing
        return Sample(own, Sides(f'"{subjects.names[suspect.thing]}"', shown, shown), known)
    if group is not None:
        return Sample(own, Sides(group.name, group.images.cpu()[rows], group.images.cpu()[rows]), known)
    some = torch.tensor(list(suspect.latents), device=seen.latents.indices.device)
    activity = seen.latents.columns(some).to_dense().sum(1).cpu()[rows]
    here = {name: (values, truth.cpu()[rows]) for name, (values, truth) in factors.items()}
    errors = ~own & (seen.predicted.cpu()[rows] == c)
    return Sample(own, find_sides(activity, ~own, errors, here, min_group), known)


def try_suspects(
    scores: ClassScores,
    seen: SplitView,
    subjects: Subjects,
    factors: Factors,
    suspects: Sequence[Suspect],
    of_things: Sequence[frozenset[int]],
    min_group: int = 10,
) -> list[Tried]:
    """Remove each latent of the suspects alone, and then together those that are no part of the class.

    Args:
        scores: of the classes.
        seen: the images.
        subjects: what they show.
        factors: of all images, as for `sample_of`.
        suspects: of any classes.
        of_things: of each suspect, the latents that are labelled as a class or another subject.
        min_group: images that a side must have.
    """
    samples = [sample_of(seen, subjects, factors, one, min_group) for one in suspects]
    each = _alone(seen.explained, scores, suspects, samples, min_group)
    helpful = [
        suspect.only([i for i, net in enumerate(nets) if not net.high < 0])
        for suspect, nets in zip(suspects, each, strict=True)
    ]
    without = _together(seen.explained, scores, suspects)
    taken = [taken_of(*both) for both in zip(without, samples, strict=True)]
    samples = [
        sample_of(seen, subjects, factors, some, min_group) if some.latents else sample
        for some, sample in zip(helpful, samples, strict=True)
    ]
    without = _together(seen.explained, scores, helpful)
    by_helpful = [taken_of(*both) for both in zip(without, samples, strict=True)]
    nets = [
        net_of(margins, sample, min_group) if some.latents else UNKNOWN
        for margins, some, sample in zip(without, helpful, samples, strict=True)
    ]
    found = significant(torch.tensor([net.p for net in nets], dtype=torch.float64), FDR).tolist()
    sure = [one and net.low > 0 for one, net in zip(found, nets, strict=True)]
    apart = [sample.others_with_cue() >= min_group for sample in samples]
    known = [float(auroc(after, sample.own)) for (_, after), sample in zip(without, samples, strict=True)]
    return [
        Tried(*parts)
        for parts in zip(
            *(suspects, helpful, samples, nets, each, taken, by_helpful, apart, sure, of_things, known),
            strict=True,
        )
    ]


def _alone(
    images: Sequence[Explained],
    scores: ClassScores,
    suspects: Sequence[Suspect],
    samples: Sequence[Sample],
    min_group: int,
) -> list[tuple[BootstrapEstimate, ...]]:
    """Return the net effect of each latent of each suspect."""
    removals = [Removal(suspect.cue.c, (j,)) for suspect in suspects for j in suspect.latents]
    margins = iter(margins_without(images, scores, removals))
    return [
        tuple(net_of(next(margins), sample, min_group) for _ in suspect.latents)
        for suspect, sample in zip(suspects, samples, strict=True)
    ]


def _together(images: Sequence[Explained], scores: ClassScores, suspects: Sequence[Suspect]) -> list[Margins]:
    """Return the margins without all latents of each suspect; it may have none."""
    return margins_without(images, scores, [Removal(suspect.cue.c, suspect.latents) for suspect in suspects])


def taken_of(margins: Margins, sample: Sample) -> BootstrapEstimate:
    """Return by how much the false positives with the cue fall."""
    others = ~sample.own & sample.sides.cue
    return share_change(margins.before[others] > 0, margins.after[others] > 0)


def net_of(margins: Margins, sample: Sample, min_group: int) -> BootstrapEstimate:
    """Return the net effect of a removal on a sample."""
    return net_effect(margins.before, margins.after, sample.cells(min_group))
