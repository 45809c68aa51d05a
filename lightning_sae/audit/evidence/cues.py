"""Cues of a class: the latents that drive it where it is wrong, or without meaning it."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.evidence.evidence_pass import SplitView
from lightning_sae.audit.evidence.subjects import Subjects
from lightning_sae.concepts.significance import least_auroc
from lightning_sae.metrics import sparse_auroc

HALF = 0.5  # of the wrong predictions, from which one other subject is what they show


class Limits(NamedTuple):
    """The sizes from which on something counts.

    Attributes:
        min_images: a class with fewer attributed images gets no verdict.
        min_errors: wrong predictions of a class that are enough to see what they share.
        detects: AUROC from which a latent is a detector: of another thing, of a word.
        fades: AUROC below which a latent counts for nothing beside a detector.
        share: smallest share of the positive attribution of a culprit, where there are errors to look at.
        unexpected_share: the same where there are no errors, and the latent merely does not mean the class.
        culprits: largest number of culprits of a finding.
        suspects: largest number of latents of a class that are tried, those that drive it most.
    """

    min_images: int = 20
    min_errors: int = 10
    detects: float = 0.9
    fades: float = 0.8
    share: float = 0.005
    unexpected_share: float = 0.25
    culprits: int = 5
    suspects: int = 16

    def faded(self, auroc: Tensor) -> Tensor:
        """Return 1 for a detector, falling to 0 at `fades`; 0 for NaN.

        Example:
            >>> Limits().faded(torch.tensor([0.7, 0.85, 0.95, torch.nan]))
            tensor([0.0000, 0.5000, 1.0000, 0.0000])
        """
        return ramp(auroc, self.fades, self.detects)


def positive_shares(attribution: Tensor) -> Tensor:
    """Return the share of each latent, `[d_sae]`, of the positive attribution.

    Example:
        >>> positive_shares(torch.tensor([3.0, 1.0, -2.0]))
        tensor([0.7500, 0.2500, 0.0000])
    """
    positive = attribution.clamp(min=0)
    return positive / positive.sum().clamp(min=1e-12)


def ramp(values: Tensor, low: float, high: float) -> Tensor:
    """Return values that rise from 0 at `low` to 1 at `high`, and are constant beyond; 0 for NaN."""
    return ((values - low) / (high - low)).clamp(0, 1).nan_to_num(nan=0.0)


class Group(NamedTuple):
    """Images with one value of a known factor.

    Attributes:
        name: as `mark=yes`.
        images: `[n]` bool.
    """

    name: str
    images: Tensor


class Cues(NamedTuple):
    """The cues that drive one class.

    Attributes:
        c: the class.
        group: group in which the class is wrong too often; `None` for all errors.
        images: number of attributed images that are predicted as the class.
        errors: `[n]` bool, images that are predicted as the class and show something else.
        by_errors: whether there are enough errors to look at.
        thing: the other subject that at least half of the errors show, -1 for none.
        thing_share: share of the errors that show this subject; 0 for none.
        thing_taken: share of this subject's images that are predicted as the class; 0 for none.
        attribution: `[d_sae]`, mean attribution to the class over the errors, or over all `images` where
            there are too few errors.
        marks: `[d_sae]` in [0, 1], AUROC of the latent for the errors, or for all images of the group where
            there is one, against the other images without the class; NaN where there are too few errors, and
            for a latent that cannot be a culprit.
        marked: `[d_sae]` bool, whether `marks` is more than chance (Mann-Whitney, one in a hundred).
        foreign: `[d_sae]` in [0, 1], AUROC of the latent for errors against images of the class; NaN where
            there are too few of either.
    """

    c: int
    group: Group | None
    images: int
    errors: Tensor
    by_errors: bool
    thing: int
    thing_share: float
    thing_taken: float
    attribution: Tensor
    marks: Tensor
    marked: Tensor
    foreign: Tensor


def find_cues(
    seen: SplitView, c: int, subjects: Subjects, detects: Tensor, limits: Limits, group: Group | None = None
) -> Cues:
    """Look at the wrong predictions of a class; at all images predicted as it where they are too few.

    Args:
        seen: the images.
        c: the class.
        subjects: what the images show.
        detects: `[S, d_sae]`, AUROC of each latent for the images of each subject.
        limits: from which size on something counts.
        group: only the wrong predictions in it, however few.
    """
    device = seen.predicted.device
    shows, subject = subjects.show(c).to(device), subjects.subject.to(device)
    errors = (seen.predicted == c) & ~shows
    marked_others = errors
    if group is not None:
        marked_others = group.images.to(device) & ~shows
        errors = errors & marked_others
    of_image = torch.where(errors, 1, torch.where(seen.predicted == c, 0, -1))[seen.attributed]
    n_errors, n = int((of_image == 1).sum()), int((of_image >= 0).sum())
    by_errors = n_errors >= (limits.min_errors if group is None else 1)
    chosen = (of_image == 1) if by_errors else (of_image >= 0)
    attribution = seen.attributions.class_means(torch.where(chosen, 0, -1), 1)[0].nan_to_num().cpu()
    marks, foreign = torch.full((2, len(attribution)), torch.nan).unbind()
    thing, share, taken = -1, 0.0, 0.0
    if by_errors:
        thing, share = _thing(subject[errors], len(subjects.names))
        taken = float((seen.predicted == c)[subject == thing].float().mean()) if thing >= 0 else 0.0
        able = positive_shares(attribution) >= limits.share  # few: to rank all for every class takes hours
        if thing >= 0:
            able |= detects[thing] > limits.fades
        some = able.nonzero().flatten()
        latents, either = seen.latents.columns(some.to(device)), shows | errors
        marks[some] = sparse_auroc(latents.keep(~shows), marked_others[~shows]).float().cpu()
        foreign[some] = sparse_auroc(latents.keep(either), errors[either]).float().cpu()
    marked = marks > least_auroc(int(marked_others.sum()), int((~shows & ~marked_others).sum()))
    return Cues(c, group, n, errors, by_errors, thing, share, taken, attribution, marks, marked, foreign)


def _thing(shown: Tensor, n_subjects: int) -> tuple[int, float]:
    """Return the subject that at least half of some images show, and their share."""
    counts = torch.bincount(shown, minlength=n_subjects)
    best, share = int(counts.argmax()), float(counts.max() / counts.sum())
    return (best, share) if share >= HALF else (-1, 0.0)
