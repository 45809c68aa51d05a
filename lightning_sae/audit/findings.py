"""What an audit says: findings with evidence, effect and a way out; `audit.json`, schema version 1."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA_VERSION = 1  # as in Audit
FILE = "audit.json"

Kind = Literal["spurious", "typographic", "polysemous", "compound"]
Severity = Literal["low", "medium", "high"]
Verdict = Literal["findings", "no findings", "not enough evidence"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)  # JSON has no NaN


class Evidence(_Record):
    """One test of a finding; the formulas are in `docs/audit.md`.

    Attributes:
        name: such as `word_auroc`.
        value: of the statistic.
        threshold: from which the test is passed; `None` for a figure that is only reported.
        passed: whether it is; `None` for one that is only reported.
        p_value: in (0, 1], where there is a null distribution.
        meaning: one sentence for a reader who has not seen the formula.
    """

    name: str
    value: float
    threshold: float | None = None
    passed: bool | None = None
    p_value: float | None = None
    meaning: str


class Culprit(_Record):
    """A latent that drives a class and does not mean it.

    Attributes:
        latent: its number.
        label: what the judge calls it; "" without a label.
        alignment: with that label.
        p_value: chance of an alignment as good as that, in (0, 1]; `None` if unknown.
        class_alignment: with the name of the class.
        class_threshold: the alignment that few random image sets reach; below it the class is not meant.
        attribution: mean attribution to the class's score over the attributed images, > 0.
        share: of the class's positive attribution, in (0, 1].
        score: by which the latents of a class are ranked for this kind, larger is worse.
        examples: ids of validation images on which it drives the class most: wrong predictions, where there
            are enough.
    """

    latent: int
    label: str
    alignment: float
    p_value: float | None
    class_alignment: float
    class_threshold: float
    attribution: float
    share: float
    score: float
    examples: tuple[int, ...]


class Change(_Record):
    """A measure as it is, and without the culprits.

    Attributes:
        images: behind it.
        group: of images, as `background=brown`; "" for all.
        as_it_is: the value.
        without: the value when the culprits are ablated.
    """

    images: int
    group: str = ""
    as_it_is: float
    without: float


class Effect(_Record):
    """What ablating all culprits of the finding at once does; `None` where no images are there for it.

    Attributes:
        score: mean score of the class over the attributed images.
        accuracy: share of the class's images that are predicted as it.
        false_positives: share of the other images that are predicted as it.
        worst_group: the lowest accuracy of any group of the class; the group is the worst one as it is.
    """

    score: Change | None = None
    accuracy: Change | None = None
    false_positives: Change | None = None
    worst_group: Change | None = None


class Finding(_Record):
    """One reliance that nobody intended.

    Attributes:
        number: 1, 2, ... in order of severity.
        class_name: the class that is led astray.
        kind: of reliance.
        severity: by effect and share.
        confidence: of the kind, in [0, 1].
        share: of the class's positive attribution that the culprits have, in (0, 1].
        images: attributed images behind the means of its culprits.
        over: which they are, as `wrong predictions`.
        culprits: the worst first.
        evidence: the tests for the kind, and against the others.
        effect: of ablating the culprits.
        summary: one sentence.
        advice: what to do: data to collect, prompt to change, correction to export.
    """

    number: int
    class_name: str
    kind: Kind
    severity: Severity
    confidence: float
    share: float
    images: int
    over: str = "images predicted as the class"
    culprits: tuple[Culprit, ...]
    evidence: tuple[Evidence, ...]
    effect: Effect
    summary: str
    advice: tuple[str, ...]


class ClassResult(_Record):
    """What is known of a class.

    Attributes:
        name: of the class.
        prompts: its prompts; none for a probe.
        verdict: `not enough evidence` where fewer images than needed are predicted as it.
        images: attributed images.
        accuracy: share of its validation images that are predicted as it; `None` without any.
        unexpected_share: of its positive attribution; `None` without enough images.
        findings: their numbers.
    """

    name: str
    prompts: tuple[str, ...]
    verdict: Verdict
    images: int
    accuracy: float | None
    unexpected_share: float | None
    findings: tuple[int, ...]


class ClassifierSource(_Record):
    """Where a saved classifier was read from.

    Attributes:
        folder: of it, absolute.
        sha256: of its weights.
    """

    folder: str
    sha256: str


class Subject(_Record):
    """What was audited.

    Attributes:
        run: name of the run folder.
        clip: open_clip's name of the model, and its weights.
        hook_point: module path.
        tokens: token rule.
        classifier: `prompts` or `probe`.
        classifier_source: of a saved probe; `None` for prompts, and for a probe that was fitted to the run.
        output: the score: cosine, logit, margin or probability.
        judge: open_clip's name of the CLIP that named the latents, and its weights.
        judge_independent: whether it has other weights than the audited one.
        data: what the images are.
        images: validation images.
        accuracy: of the classifier on them; `None` where no image has a class.
        fvu: of the autoencoder on them.
    """

    run: str
    clip: str
    hook_point: str
    tokens: str
    classifier: Literal["prompts", "probe"]
    classifier_source: ClassifierSource | None = None
    output: str
    judge: str
    judge_independent: bool
    data: str
    images: int
    accuracy: float | None
    fvu: float | None


class Audit(_Record):
    """All of it, as `audit.json` has it.

    Attributes:
        schema_version: of this layout; another one is refused.
        library_version: that wrote it.
        subject: what was audited.
        classes: a result for each, in the order of the classifier.
        findings: the most severe first.
    """

    schema_version: Literal[1] = 1
    library_version: str
    subject: Subject
    classes: tuple[ClassResult, ...]
    findings: tuple[Finding, ...]

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of a severity or a worse one."""
        least = SEVERITIES.index(severity)
        return tuple(finding for finding in self.findings if SEVERITIES.index(finding.severity) >= least)

    def finding(self, number: int) -> Finding:
        """The finding of a number.

        Raises:
            ValueError: there is none.
        """
        for finding in self.findings:
            if finding.number == number:
                return finding
        raise ValueError(f"there is no finding {number}: the audit has {len(self.findings)}, from 1 on")


def write_audit(audit: Audit, folder: Path) -> Path:
    """Writes `audit.json`, whole or not at all; its path."""
    path, part = folder / FILE, folder / f"{FILE}.part"
    part.write_text(audit.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def read_audit(folder: Path) -> Audit:
    """Reads `audit.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another version, or not whole; names the fields.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: `python -m lightning_sae.audit {folder}` writes it")
    try:
        return Audit.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ValueError(
            f"{path} is no audit of schema version {SCHEMA_VERSION} ({wrong}): audit the run again"
        ) from error
