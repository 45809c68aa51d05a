"""What ablating the culprits of a finding does, and the harm that they do: wrong predictions."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from lightning_sae.attribution.ablation import Removal
from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.gaps import Factors
from lightning_sae.audit.evidence.removal import BootstrapEstimate, best_threshold, share_change
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.audit.findings import Change, Effect
from lightning_sae.audit.verdict.cases import Suspect
from lightning_sae.audit.verdict.margins import Margins, margins_without
from lightning_sae.audit.verdict.verdicts import Sample, net_of, sample_of
from lightning_sae.classifiers.scores import ClassScores

ACTIVE = "the culprits as active as on its errors"  # as on three of four of them


class Harm(NamedTuple):
    """Wrong predictions that a cue causes, as a share of the images that they can happen to.

    Attributes:
        of: description of these images.
        share: share of them that are predicted wrongly because of the cue.
    """

    of: str
    share: BootstrapEstimate


class RemovalEffect(NamedTuple):
    """The effect of a removal.

    Attributes:
        effect: before and after.
        harm: the largest harm that is certain; the largest one if none is.
    """

    effect: Effect
    harm: Harm


def measure(
    scores: ClassScores,
    seen: SplitView,
    subjects: Subjects,
    factors: Factors,
    culprits: Sequence[Suspect],
    min_group: int = 10,
) -> list[RemovalEffect]:
    """Remove each set of culprits from all images that the tail can be run on.

    Args:
        scores: of the classes.
        seen: the images.
        subjects: what they show.
        factors: of all images, as for `sample_of`.
        culprits: of each finding, with their class, and the group or other thing that is their cue.
        min_group: images; smaller groups cannot be the worst.
    """
    found = []
    removals = [Removal(some.cue.c, some.latents) for some in culprits]
    for some, margins in zip(culprits, margins_without(seen.explained, scores, removals), strict=True):
        sample = sample_of(seen, subjects, factors, some, min_group)
        here = {name: (values, truth[seen.attributed.cpu()]) for name, (values, truth) in factors.items()}
        found.append(
            RemovalEffect(_effect(margins, sample, here, min_group), harm_of(margins, sample, min_group))
        )
    return found


def harm_of(margins: Margins, sample: Sample, min_group: int = 10) -> Harm:
    """Return the wrong predictions that a cue causes.

    These are other images with the cue that are taken for the class only while the latents are there. Where
    the data know the cue, images of the class without the cue are the second kind: they are missed, because
    the class is expected to have the cue, and are found without the latents, each time at the best threshold.
    What ablation costs on images of the class is no harm of the cue. Without images of either kind, the harm
    is 0.

    Args:
        margins: of the class, with the latents and without.
        sample: the images.
        min_group: images of the class without the cue from which they are looked at.
    """
    before, after = margins.before > 0, margins.after > 0
    name, taken = sample.sides.name or ACTIVE, ~sample.own & sample.sides.cue
    found = [
        Harm(f"other images with {name} that are taken for it", share_change(before[taken], after[taken]))
    ]
    plain, cells = sample.own & ~sample.sides.cue, sample.cells(min_group)
    if len(cells.own) > 1:
        before, after = (part > best_threshold(part, cells) for part in margins)
        missed = share_change(~before[plain], ~after[plain])
        found.append(Harm(f"its images without {name} that are missed", missed))
    seen = [harm for harm in found if not math.isnan(harm.share.value)]
    unseen = Harm(found[0].of, BootstrapEstimate(0.0, 0.0, 0.0, 1.0))
    return max(seen, key=lambda harm: (max(harm.share.low, 0.0), harm.share.value), default=unseen)


def _effect(margins: Margins, sample: Sample, factors: Factors, min_group: int) -> Effect:
    own, others, cue = sample.own, ~sample.own, sample.sides.cue
    name = sample.sides.name
    net = net_of(margins, sample, min_group)
    return Effect(
        net=None if math.isnan(net.value) else Estimate.of(net),
        cue=name,
        balanced=len(sample.cells(min_group).own) > 1,
        accuracy=_change(margins, own & sample.known),
        false_positives=_change(margins, others),
        cue_false_positives=_change(margins, others & cue, name),
        cue_accuracy=_change(margins, own & cue, name),
        plain_accuracy=_change(margins, own & ~cue, f"not {name}" if name else ""),
        worst_group=_worst_group(margins, own & sample.known, factors, min_group),
    )


def _change(margins: Margins, images: Tensor, group: str = "") -> Change | None:
    """Return the shares of some images that are predicted as the class."""
    n = int(images.sum())
    if n == 0:
        return None
    before, after = (float((part[images] > 0).double().mean()) for part in margins)
    return Change(images=n, group=group, as_it_is=before, without=after)


def _worst_group(margins: Margins, own: Tensor, factors: Factors, min_group: int) -> Change | None:
    """Return, of the groups of the class, the one with the lowest accuracy as it is."""
    groups = [
        (f"{factor}={value}", own & (truth == v))
        for factor, (values, truth) in factors.items()
        if factor != "class"
        for v, value in enumerate(values)
    ]
    changes = [_change(margins, mine, name) for name, mine in groups if int(mine.sum()) >= min_group]
    known = [change for change in changes if change is not None]
    return min(known, key=lambda change: change.as_it_is) if known else None
