"""All that the audit finds out about the classes, before effects and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from lightning_sae.audit.cases import CulpritLatent, culprits_of, make_case
from lightning_sae.audit.classifier import Classifier
from lightning_sae.audit.cues import Cues, Limits, find_cues
from lightning_sae.audit.findings import Kind
from lightning_sae.audit.meaning import Judged, judge_run
from lightning_sae.audit.phrases import class_phrases
from lightning_sae.audit.ranking import Ranking, attribution_on_things, rank
from lightning_sae.audit.seen import Seen, see
from lightning_sae.audit.subjects import Subjects, find_subjects
from lightning_sae.audit.words import Reading, read_words
from lightning_sae.metrics import ActiveRanks
from lightning_sae.run_folder import RunFolder
from lightning_sae.scores import ClassScores, Output

CONTROL_WORDS = 6  # words at least, so that telling one from the others means something


@dataclass(frozen=True)
class Options:
    """How to audit.

    Attributes:
        output: the score: cosine, logit, margin or probability.
        limits: from which size on something counts.
        min_group: images; smaller groups cannot be the worst.

    Raises:
        ValueError: there is no such score.
    """

    output: Output = "margin"
    limits: Limits = field(default_factory=Limits)
    min_group: int = 10

    def __post_init__(self) -> None:
        if self.output not in get_args(Output):
            raise ValueError(f"output must be one of {', '.join(get_args(Output))}; got {self.output!r}")


class Studied(NamedTuple):
    """One class, looked at.

    Attributes:
        c: its number.
        phrase: what it is called.
        cues: its cues.
        ranking: of its latents.
        culprits: the worst first.
    """

    c: int
    phrase: str
    cues: Cues
    ranking: Ranking
    culprits: list[CulpritLatent]

    def of_kind(self, kind: Kind) -> list[CulpritLatent]:
        """Its culprits of a kind, the worst first."""
        return [culprit for culprit in self.culprits if culprit.decided.kind == kind]


@dataclass(frozen=True)
class Examined:
    """What the audit found before it is put into words.

    Attributes:
        seen: the validation images.
        subjects: what they show.
        judged: what the judge says.
        studied: the classes, in the order of the classifier.
    """

    seen: Seen
    subjects: Subjects
    judged: Judged
    studied: list[Studied]

    def ranking(self, c: int, kind: Kind) -> Tensor:
        """`[d_sae]` >= 0: how strongly each latent is a culprit of class `c` of a kind."""
        score = torch.zeros(self.seen.latents.d_sae)
        for culprit in self.studied[c].of_kind(kind):
            score[culprit.latent] = culprit.score
        return score


def examine(run: RunFolder, classifier: Classifier, options: Options) -> Examined:
    """All of the audit but effects and words.

    Args:
        run: `ready`.
        classifier: under audit.
        options: how.

    Raises:
        ValueError: the classifier has none of the classes of the data.
    """
    scores, limits = classifier.scores(options.output), options.limits
    subjects = find_subjects(run.data, classifier.class_names)
    seen = see(run, classifier, scores)
    judged = judge_run(run, seen.latents, classifier.class_names)
    subject = subjects.subject.to(seen.predicted.device)
    detects = ActiveRanks.of(seen.latents).aurocs(subject, len(subjects.names)).cpu().float()
    cues = [find_cues(seen, c, subjects, detects, limits) for c in range(len(classifier.class_names))]
    unexpected = judged.unexpected
    on_things = attribution_on_things(run, scores, subjects, cues)
    rankings = [rank(cue, detects, on_things.get(cue.c), unexpected[:, cue.c], limits) for cue in cues]
    phrases = class_phrases(classifier.class_names, classifier.prompts)
    suspects = {
        cue.c: ranking.score > 0
        for cue, ranking in zip(cues, rankings, strict=True)
        if cue.images >= limits.min_images and bool((ranking.score > 0).any())
    }
    studied = [Studied(*parts, []) for parts in zip(range(len(cues)), phrases, cues, rankings, strict=True)]
    for c, (reading, word) in _read(run, phrases, suspects, scores).items():
        case = make_case(phrases[c], cues[c], subjects, judged, detects, reading, word, limits)
        found = culprits_of(case, cues[c], rankings[c], seen)
        studied[c] = studied[c]._replace(culprits=found)
    return Examined(seen, subjects, judged, studied)


def _read(
    run: RunFolder, phrases: Sequence[str], suspects: Mapping[int, Tensor], scores: ClassScores
) -> dict[int, tuple[Reading, int]]:
    """Draws the words of the suspect classes, and others beside; the reading and the place of each word."""
    if not suspects:
        return {}
    asked = torch.stack(list(suspects.values())).any(0).nonzero().flatten()
    others = [c for c in range(len(phrases)) if c not in suspects]
    chosen = [*suspects, *others[: max(0, CONTROL_WORDS - len(suspects))]]
    classes = {phrases[c]: c for c in reversed(chosen)}  # of equal phrases the first class
    words = list(dict.fromkeys(phrases[c] for c in chosen))
    reading = read_words(run, words, [classes[word] for word in words], scores, asked)
    return {c: (reading, words.index(phrases[c])) for c in suspects}
