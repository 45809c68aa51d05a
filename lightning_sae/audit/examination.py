"""All that the audit finds out about the classes, before effects and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.audit.evidence.cues import Cues, Group, Limits, find_cues
from lightning_sae.audit.evidence.evidence_pass import SplitView, view_split
from lightning_sae.audit.evidence.gaps import Factors, Gap, find_gaps, raises
from lightning_sae.audit.evidence.judgement import JudgeView, judge_run
from lightning_sae.audit.evidence.phrases import class_phrases
from lightning_sae.audit.evidence.ranking import SHARED, Ranking, attribution_on_things, rank
from lightning_sae.audit.evidence.reading import Reading, read_words
from lightning_sae.audit.evidence.subjects import Subjects, find_subjects
from lightning_sae.audit.findings import Kind
from lightning_sae.audit.verdict.cases import Suspect, able, leads, look_at, make_case, suspects_of
from lightning_sae.audit.verdict.verdicts import Tried, each_once, try_suspects
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.outputs import Output, as_output
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.metrics import ActiveRanks
from lightning_sae.runs.folder import RunFolder


@dataclass(frozen=True)
class Options:
    """The settings of an audit.

    Attributes:
        output: the score: cosine, logit, margin, probability, or one of your own.
        limits: sizes from which on something counts.
        min_group: number of images below which a group cannot be the worst.
        edits: whether pairs are also made of the validation images, by edits (`lightning_sae.audit.paired`).
        earlier: folders of finished runs of the same CLIP at earlier hook points. Culprits are traced back
            to these hook points, and to the earlier ones of the run itself.

    Raises:
        ValueError: there is no such score.
    """

    output: Output | str = "margin"
    limits: Limits = field(default_factory=Limits)
    min_group: int = 10
    edits: bool = False
    earlier: Sequence[Path] = ()

    def __post_init__(self) -> None:
        as_output(self.output)


class Studied(NamedTuple):
    """One class, and what the audit finds out about it.

    Attributes:
        c: number of the class.
        phrase: what the class is called.
        cues: cues of its errors: first those of all errors, then those of each group.
        rankings: a ranking of its latents for each of the cues.
        gaps: groups in which it goes wrong more often.
        tried: its suspects, each with the effect of its removal.
    """

    c: int
    phrase: str
    cues: list[Cues]
    rankings: list[Ranking]
    gaps: list[Gap]
    tried: list[Tried]

    def convicted(self, kind: Kind) -> list[Tried]:
        """Return the suspects of a kind that are found to be culprits."""
        return [one for one in self.tried if one.verdict == "culprit" and one.suspect.decided.kind == kind]


@dataclass(frozen=True)
class Examined:
    """The results of an audit before they are put into words.

    Attributes:
        seen: the validation images.
        subjects: what they show.
        judged: what the judge says.
        studied: the classes, in the order of the classifier.
    """

    seen: SplitView
    subjects: Subjects
    judged: JudgeView
    studied: list[Studied]

    def ranking(self, c: int, kind: Kind) -> Tensor:
        """Return `[d_sae]` >= 0: how strongly each latent is a culprit of class `c` of a kind.

        A latent of a convicted suspect that is not among the culprits itself counts only a tenth.
        """
        score = torch.zeros(self.seen.latents.d_sae)
        for one in self.studied[c].convicted(kind):
            for latent, value in zip(one.suspect.latents, one.suspect.scores, strict=True):
                weight = 1.0 if latent in one.culprits.latents else SHARED
                score[latent] = max(float(score[latent]), weight * value)
        return score


def examine(run: RunFolder, classifier: Classifier, options: Options) -> Examined:
    """Return the results of an audit before they are put into words.

    Args:
        run: `ready`.
        classifier: under audit.
        options: settings of the audit.

    Raises:
        ValueError: the classifier has none of the classes of the data.
    """
    scores = classifier.scores(options.output)
    subjects = find_subjects(run.data, classifier.class_names)
    seen = view_split(run, classifier, scores)
    subject = subjects.subject.to(seen.predicted.device)
    detects = ActiveRanks.of(seen.latents).aurocs(subject, len(subjects.names)).cpu().float()
    judged = judge_run(
        run, seen.latents, classifier.class_names, subjects.shown, subjects.of_classes(detects).T
    )
    factors = dict(run.data.images("val").factors)
    view = _View(run, classifier, options, scores, seen, subjects, judged, detects, factors)
    studied = _study(view)
    suspects = _suspects(view, studied)
    names = [*classifier.class_names, *subjects.names]
    of_things = [judged.labelled(names, one.latents) for one in suspects]
    tried = try_suspects(scores, seen, subjects, factors, suspects, of_things, options.min_group)
    for one in each_once(tried):
        studied[one.suspect.cue.c].tried.append(one)
    return Examined(seen, subjects, judged, studied)


class _View(NamedTuple):
    """The inputs and first results with which the classes are studied."""

    run: RunFolder
    classifier: Classifier
    options: Options
    scores: ClassScores
    seen: SplitView
    subjects: Subjects
    judged: JudgeView
    detects: Tensor
    factors: Factors


def _study(view: _View) -> list[Studied]:
    """Return the classes with their cues, ranked, before any suspect."""
    seen, subjects, limits = view.seen, view.subjects, view.options.limits
    names = view.classifier.class_names
    predicted, targets = seen.predicted.cpu(), subjects.targets.cpu()
    gaps = find_gaps(predicted, targets, len(names), view.factors, view.options.min_group)
    cues = [[find_cues(seen, c, subjects, view.detects, limits)] for c in range(len(names))]
    logits = view.scores.logits(seen.embeddings).cpu()
    for gap in gaps:
        group = Group(gap.name, view.factors[gap.factor][1] == gap.value)
        if gap.measure == "false_positives" and raises(group.images, gap.c, logits, targets):
            cues[gap.c].append(find_cues(seen, gap.c, subjects, view.detects, limits, group))
    on_things = attribution_on_things(seen, view.scores, subjects, [own[0] for own in cues])
    foreign = view.judged.meaning.foreign
    rankings = [
        [
            rank(cue, view.detects, None if cue.group else on_things.get(cue.c), foreign[:, cue.c], limits)
            for cue in own
        ]
        for own in cues
    ]
    phrases = class_phrases(names, view.classifier.prompts)
    return [
        Studied(c, phrases[c], cues[c], rankings[c], [gap for gap in gaps if gap.c == c], [])
        for c in range(len(names))
    ]


def _suspects(view: _View, studied: Sequence[Studied]) -> list[Suspect]:
    """Return the suspects of all classes."""
    limits = view.options.limits
    tested = {one.c: sorted({j for r in one.rankings for j in able(r, limits)}) for one in studied}
    wanted = {c: js for c, js in tested.items() if js and studied[c].cues[0].images >= limits.min_images}
    phrases, found = [one.phrase for one in studied], []
    for c, (reading, word) in _read(view.run, phrases, wanted, view.scores).items():
        one = studied[c]
        for cue, ranking in zip(one.cues, one.rankings, strict=True):
            looks = look_at(view.judged, view.seen, cue, leads(cue, ranking, limits))
            gap = _gap_of(cue, one.gaps)
            case = make_case(
                one.phrase, cue, gap, view.subjects, view.judged, view.detects, reading, word, limits, looks
            )
            found += suspects_of(case, cue, ranking, view.seen)
    return found


def _gap_of(cue: Cues, gaps: Sequence[Gap]) -> Gap | None:
    """Return the gap in false positives that the group of a cue was found by."""
    if cue.group is None:
        return None
    return next(one for one in gaps if one.name == cue.group.name and one.measure == "false_positives")


def _read(
    run: RunFolder, phrases: Sequence[str], suspects: Mapping[int, Sequence[int]], scores: ClassScores
) -> dict[int, tuple[Reading, int]]:
    """Return, for each class with suspects, the reading of all words and the place of its own word in it."""
    if not suspects:
        return {}
    asked = torch.tensor(sorted({j for latents in suspects.values() for j in latents}))
    classes = {phrases[c]: c for c in reversed(list(suspects))}  # of equal phrases the first class
    words = list(dict.fromkeys(phrases[c] for c in suspects))
    reading = read_words(run, words, [classes[word] for word in words], scores, asked)
    return {c: (reading, words.index(phrases[c])) for c in suspects}
