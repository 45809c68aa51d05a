"""What an audit says: findings with evidence, effect and a way out; `audit.json`, schema version 2."""

from pathlib import Path
from typing import Literal

from lightning_sae.audit.estimate import AuditRecord, Estimate
from lightning_sae.audit.origins.origin import Origin
from lightning_sae.classifiers.classifier import ClassifierSource
from lightning_sae.files import write_atomic
from lightning_sae.trust.records import read_record_of

SCHEMA_VERSION = 2  # as in Audit
FILE = "audit.json"

Kind = Literal["spurious", "typographic", "polysemous", "compound"]
Severity = Literal["low", "medium", "high"]
Verdict = Literal["findings", "no findings", "cannot be told", "not enough evidence"]
Standing = Literal["shown", "inferred"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")
ONE_SEED = "one seed: nothing is known about recurrence; -m experiment=stability"
LIMITS: dict[Severity, float] = {"high": 0.1, "medium": 0.02}  # harm, from which a finding is so severe


class EvidenceTest(AuditRecord):
    """One test of a finding; the formulas are in `docs/audit.md`.

    Attributes:
        name: such as `word_auroc`.
        value: value of the statistic.
        threshold: value from which on the test is passed; `None` for a figure that is only reported.
        passed: whether the test is passed; `None` for a figure that is only reported.
        p_value: p-value in (0, 1]; `None` without a null distribution.
        meaning: one sentence for a reader who has not seen the formula.
    """

    name: str
    value: float
    threshold: float | None = None
    passed: bool | None = None
    p_value: float | None = None
    meaning: str


class Culprit(AuditRecord):
    """A latent that drives a class and does not mean it.

    Attributes:
        latent: its number.
        label: what the judge calls it; "" without a label.
        named: whether the label is to be relied on (`lightning_sae.concepts.naming`).
        alignment: alignment of the latent with that label.
        p_value: chance of an alignment that is as good, in (0, 1]; `None` if unknown.
        agreement: mean cosine of its top images with the name of the class, by the judge.
        p_random: chance that as many random images agree with the name as well; `None` if unknown.
        p_class: chance that as many images of the class, alike among themselves, agree with the name as
            badly; `None` if unknown.
        net: fall of the balanced error of the class when this latent alone is removed; `None` if unknown.
        attribution: mean attribution to the class's score over the attributed images, > 0.
        share: its share of the class's positive attribution, in (0, 1].
        score: score that ranks the latents of a class for this kind; a larger one is worse.
        examples: ids of validation images on which it drives the class most: wrong predictions, where there
            are enough.
        top_images: ids of its top validation images.
    """

    latent: int
    label: str
    named: bool
    alignment: float
    p_value: float | None
    agreement: float
    p_random: float | None
    p_class: float | None
    net: Estimate | None
    attribution: float
    share: float
    score: float
    examples: tuple[int, ...]
    top_images: tuple[int, ...] = ()


class Change(AuditRecord):
    """A measure with the culprits in place and with the culprits ablated.

    Attributes:
        images: number of images that the measure is taken on.
        group: group that these images form, such as `background=brown`; "" for all images.
        as_it_is: value of the measure with the culprits in place.
        without: value of the measure when the culprits are ablated.
    """

    images: int
    group: str = ""
    as_it_is: float
    without: float


class Effect(AuditRecord):
    """The effect of ablating all culprits of a finding at once; a measure without any images is `None`.

    Attributes:
        net: fall of the balanced error of the class, at the best threshold before and after. Above 0 the
            culprits do harm that no shift of the threshold mends.
        cue: value of a known factor that the culprits stand for, as `background=brown`; "" where only their
            own activity tells which images have the cue.
        balanced: whether images with and without the cue count alike in `net`.
        accuracy: share of the class's images that are predicted as the class.
        false_positives: share of the other images that are predicted as the class.
        cue_false_positives: share of the other images with the cue that are predicted as the class.
        cue_accuracy: share of the class's images with the cue that are predicted as the class.
        plain_accuracy: share of the class's images without the cue that are predicted as the class.
        worst_group: accuracy in the group of the class that has the lowest accuracy before the ablation.
    """

    net: Estimate | None = None
    cue: str = ""
    balanced: bool = False
    accuracy: Change | None = None
    false_positives: Change | None = None
    cue_false_positives: Change | None = None
    cue_accuracy: Change | None = None
    plain_accuracy: Change | None = None
    worst_group: Change | None = None


class PairEvidence(AuditRecord):
    """The effect of one value on the culprits and the class, over pairs of images that differ in it alone.

    All changes are differences: the image with the value minus the image without it.

    Attributes:
        value: the value, such as `background=brown`.
        pairs: number of pairs, none of which shows the class.
        right_way: share of the pairs in which the culprits are more active with the value; a pair in which
            they do not change counts half.
        activation: change of the culprits' mean activation, each in units of its own scale (`docs/pairs.md`).
        score: change of the margin of the class.
        carried: part of the change of the margin that is gone when the culprits are removed from both images.
        shown: whether these three changes are above 0, by a test over all that the audit tries.
    """

    value: str
    pairs: int
    right_way: float
    activation: Estimate
    score: Estimate
    carried: Estimate
    shown: bool


class Finding(AuditRecord):
    """One reliance that nobody intended.

    Attributes:
        number: 1, 2, ... in order of severity.
        class_name: the class that is led astray.
        kind: of reliance.
        severity: severity by the measured harm.
        harm: wrong predictions that the culprits cause, a share of the images that `harm_of` names.
        harm_of: description of the images that `harm` is a share of.
        confidence: confidence in the kind, in [0, 1].
        share: share of the class's positive attribution that the culprits have, in (0, 1].
        images: number of attributed images that the means of the culprits are taken over.
        over: description of these images, such as `wrong predictions`.
        culprits: the worst first.
        evidence: the tests for the kind, and against the other kinds.
        effect: effect of ablating the culprits.
        summary: one sentence.
        advice: what to do: data to collect, prompt to change, correction to export.
        in_seeds: number of runs of the recipe, out of `Audit.seeds`, that have the finding; this run counts.
        standing: `shown` where pairs that differ in the cue alone show it, else `inferred`.
        pairs: evidence from these pairs; `None` without pairs of the cue.
        origins: where the culprits come from, for each earlier hook point.
    """

    number: int
    class_name: str
    kind: Kind
    severity: Severity
    harm: Estimate
    harm_of: str
    confidence: float
    share: float
    images: int
    over: str = "images predicted as the class"
    culprits: tuple[Culprit, ...]
    evidence: tuple[EvidenceTest, ...]
    effect: Effect
    summary: str
    advice: tuple[str, ...]
    in_seeds: int = 1
    standing: Standing = "inferred"
    pairs: PairEvidence | None = None
    origins: tuple[Origin, ...] = ()


class GroupGap(AuditRecord):
    """A group that the data know, in which a class goes wrong more often than elsewhere.

    Attributes:
        group: value of a known factor that makes the group, such as `mark=yes`.
        measure: `false_positives`, on images of other classes; or `misses`, on images of the class.
        images: number of such images in the group.
        share: share of them that are predicted wrongly.
        elsewhere: the same share among such images outside of the group.
        gap: difference of the two shares.
        p_value: p-value of Fisher's exact test, one-sided.
    """

    group: str
    measure: Literal["false_positives", "misses"]
    images: int
    share: float
    elsewhere: float
    gap: Estimate
    p_value: float


class ClassResult(AuditRecord):
    """All that is known of a class.

    Attributes:
        name: of the class.
        prompts: its prompts; none for a probe.
        verdict: `not enough evidence` where fewer images than needed are predicted as it; `cannot be told`
            where `reason` says why.
        reason: why the class cannot be told, and what to collect; "" for any other verdict.
        images: number of attributed images that are predicted as the class.
        accuracy: share of its validation images that are predicted as it; `None` without any.
        told: AUROC with which the judge tells its images from others; `None` where no image shows it.
        unexpected_share: unexpected share of its positive attribution; `None` without enough images.
        findings: numbers of its findings.
        suspects: latents that may lead it astray, though removing them does not tell.
        gaps: groups in which it goes wrong more often, the largest gap first.
    """

    name: str
    prompts: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    images: int
    accuracy: float | None
    told: float | None = None
    unexpected_share: float | None
    findings: tuple[int, ...]
    suspects: tuple[int, ...] = ()
    gaps: tuple[GroupGap, ...] = ()


class Subject(AuditRecord):
    """The audited run: CLIP, images, hook point and classifier.

    Attributes:
        run: name of the run folder.
        clip: name of the model and of its weights, distinct from that of the judge where they differ.
        hook_point: module path.
        tokens: token rule.
        classifier: `prompts` or `probe`.
        classifier_source: file of a probe; `None` for prompts, and for a probe that was not kept.
        output: name of the score: cosine, logit, margin, probability, or one of the user's own.
        judge: name of the CLIP that named the latents, and of its weights.
        judge_independent: whether the judge has other weights than the audited CLIP.
        data: what the images are.
        images: number of validation images.
        accuracy: accuracy of the classifier on these images; `None` where no image has a class.
        fvu: FVU of the autoencoder on these images.
        sae_sha256: digest of the autoencoder's weights; "" in audits from before it was recorded.
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
    sae_sha256: str = ""


class Audit(AuditRecord):
    """All that an audit found, as `audit.json` has it.

    Attributes:
        schema_version: version of this layout; a file of another version is refused.
        library_version: version of the library that wrote the file.
        subject: what was audited.
        classes: a result for each class, in the order of the classifier.
        findings: the most severe first.
        seeds: number of runs of the recipe in which the findings were looked for; 1 for this run alone.
    """

    schema_version: Literal[2] = 2
    library_version: str
    subject: Subject
    classes: tuple[ClassResult, ...]
    findings: tuple[Finding, ...]
    seeds: int = 1

    def at_least(self, severity: Severity, in_seeds: int = 1) -> tuple[Finding, ...]:
        """Return the findings whose harm has at least a given severity at the lower end of its interval.

        Args:
            severity: the lowest severity to return.
            in_seeds: smallest number of runs of the recipe that have the finding.
        """
        least = SEVERITIES.index(severity)
        return tuple(
            finding
            for finding in self.findings
            if SEVERITIES.index(severity_of(finding.harm.low)) >= least and finding.in_seeds >= in_seeds
        )

    def said_of_seeds(self, finding: Finding) -> str:
        """Return `4 of 5 seeds`; "" where one run alone is known."""
        return f"{finding.in_seeds} of {self.seeds} seeds" if self.seeds > 1 else ""

    def finding(self, number: int) -> Finding:
        """Return the finding of a number.

        Raises:
            ValueError: there is none.
        """
        for finding in self.findings:
            if finding.number == number:
                return finding
        raise ValueError(f"there is no finding {number}: the audit has {len(self.findings)}, from 1 on")


def severity_of(harm: float) -> Severity:
    """Return how bad a finding is: high from 10 points of wrong predictions on, medium from 2, else low.

    Example:
        >>> severity_of(0.1), severity_of(0.05), severity_of(0.01)
        ('high', 'medium', 'low')
    """
    for name, limit in LIMITS.items():
        if round(harm, 6) >= limit:  # 0.5 - 0.4 < 0.1
            return name
    return "low"


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write `audit.json`, whole or not at all, and return its path."""
    path = folder / FILE
    write_atomic(path, (audit.model_dump_json(indent=2) + "\n").encode())
    return path


def read_audit(folder: Path) -> Audit:
    """Read `audit.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another version, or not whole; names the fields.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {FILE}: `lightning-sae audit {folder}` writes it")
    what = f"audit of schema version {SCHEMA_VERSION}"
    return read_record_of(Audit, path, what, "audit the run again")
