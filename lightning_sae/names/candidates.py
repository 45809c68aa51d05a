"""A candidate for a name, and the images that choose it and judge it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from lightning_sae.metrics import auroc

AS_GOOD = 0.01  # AUROC within which the shorter of two names is taken


class NameCandidate(NamedTuple):
    """A text that may say when a latent fires.

    Attributes:
        name: the text.
        scores: `[n]`, one per image: the judge's agreement with the text, or the value of an attribute.
        evidence: why it is a candidate, in words.
    """

    name: str
    scores: Tensor
    evidence: str


class Halves(NamedTuple):
    """Images in two halves: one chooses names, the other measures how valid the names are.

    Attributes:
        choosing: `[n]` bool, whether each image belongs to the half that chooses.
    """

    choosing: Tensor

    @classmethod
    def of(cls, n: int, seed: int = 0) -> Self:
        """Return random halves of `n` images.

        Example:
            >>> int(Halves.of(5).choosing.sum())
            2
        """
        choosing = torch.zeros(n, dtype=torch.bool)
        choosing[torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: n // 2]] = True
        return cls(choosing)

    def chosen(self, scores: Tensor, fires: Tensor) -> float:
        """Return the AUROC of scores for firing on the images that choose; `[n]` each."""
        return float(auroc(scores[self.choosing], fires[self.choosing]))

    def validity(self, scores: Tensor, fires: Tensor) -> float:
        """Return the AUROC of scores for firing on the images that did not choose; `[n]` each."""
        return float(auroc(scores[~self.choosing], fires[~self.choosing]))


class NameSource(Protocol):
    """A source of names.

    Attributes:
        title: name of the source.
    """

    title: str

    def candidates(self, fires: Tensor) -> Sequence[NameCandidate]:
        """Return candidates for a latent.

        Args:
            fires: `[m]` bool, whether the latent fires on each of the images that choose.
        """
        ...


class ChosenName(NamedTuple):
    """A candidate with its AUROC on the images that chose it."""

    candidate: NameCandidate
    auroc: float


def best_candidate(candidates: Sequence[NameCandidate], fires: Tensor, halves: Halves) -> ChosenName | None:
    """Return the candidate with the largest AUROC on the images that choose.

    Among candidates within 0.01 of the largest AUROC, the one with the fewest words is taken.

    Args:
        candidates: candidates of one source.
        fires: `[n]` bool, whether the latent fires on each of all images.
        halves: the two halves of the images.

    Returns:
        `None` where there is no candidate.

    Example:
        >>> fires = torch.tensor([True, False]).repeat(10)
        >>> texts = [NameCandidate("a red", fires.float(), ""), NameCandidate("red", fires.float() - 1, "")]
        >>> best_candidate(texts, fires, Halves.of(20)).candidate.name
        'red'
    """
    choices = [ChosenName(one, halves.chosen(one.scores, fires)) for one in candidates]
    if not choices:
        return None
    most = max(choice.auroc for choice in choices)
    good = [choice for choice in choices if choice.auroc >= most - AS_GOOD]
    return min(good, key=lambda choice: (len(choice.candidate.name.split()), -choice.auroc))
