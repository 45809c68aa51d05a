"""The audit of a run on real pictures, against what was planted.

The culprits of a plant are the latents that predict its cue on the test pictures (AUROC at least 0.9) and
whose ablation lowers the class's score on test pictures with the cue and not of the class, as in
benchmarks/audit.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from audit import Truth
from pictured import Plant, Source
from real_corrections import CorrectionRow, correction_row, test_embeddings
from real_runs import Case
from reliance import precision
from torch import Tensor

from lightning_sae.audit.audit import audit_examined
from lightning_sae.audit.evidence.evidence_pass import ready
from lightning_sae.audit.examination import Examined, Options, examine
from lightning_sae.audit.findings import Audit, ClassResult, Finding
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.metrics import sparse_auroc
from lightning_sae.runs.classifier import prompt_classifier
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.runs.probe import probe_of

DETECTS = 0.95  # AUROC on test from which a latent is the detector of a class
Culprits = Mapping[Plant, Tensor]


class PlantRow(NamedTuple):
    """A plant, and how it is found.

    Attributes:
        class_name: that it leads astray.
        factor: what a picture with the cue has.
        kind: of reliance.
        taken: share of the test pictures of other classes that are taken for it, with the cue.
        taken_without: the same without the cue.
        culprits: how many latents carry it.
        precision: average precision of the audit's ranking for the class and the kind; 0 without culprits.
        verdict: on the class.
        true: findings of the class with a culprit among their latents.
        false: other findings of the class.
        right_kind: true ones of this kind.
    """

    class_name: str
    factor: str
    kind: str
    taken: float
    taken_without: float
    culprits: int
    precision: float
    verdict: str
    true: int
    false: int
    right_kind: int


class FindingRow(NamedTuple):
    """A finding, by its worst latent.

    Attributes:
        class_name: that is led astray.
        kind: of reliance.
        severity: of the harm.
        harm: as measured.
        harm_low: lower end of its interval.
        latent: the worst one.
        label: of that.
        plant: of the class, that any of its latents carries; "" for none.
        detects: the class that the worst one is a detector of; "" for none.
    """

    class_name: str
    kind: str
    severity: str
    harm: float
    harm_low: float
    latent: int
    label: str
    plant: str
    detects: str


class ClassRow(NamedTuple):
    """A class, and what the audit says of it; the fields are those of `ClassResult`."""

    class_name: str
    verdict: str
    accuracy: float | None
    told: float | None
    unexpected_share: float | None
    findings: int


class DetectorRow(NamedTuple):
    """A latent that detects a class on test.

    Attributes:
        class_name: the class.
        latent: its number.
        auroc: on test.
        label: that the judge gives it.
        named: whether the label can be trusted, by the run.
        told: how well the judge tells the class, an AUROC.
    """

    class_name: str
    latent: int
    auroc: float
    label: str
    named: bool
    told: float | None


ROWS = {
    "plants": PlantRow,
    "findings": FindingRow,
    "corrections": CorrectionRow,
    "classes": ClassRow,
    "detectors": DetectorRow,
}


def measure(
    source: Source, case: Case, folder: Path, taught: Path, kind: str, level: float, groups: bool
) -> dict[str, pd.DataFrame]:
    """Return the tables of a run and a classifier.

    Args:
        source: of the pictures.
        case: the run.
        folder: of the run.
        taught: of a run on pictures with the CLIP's own bias, whose train split a probe is fitted to.
        kind: of classifier, `prompts` or `probe`.
        level: of the tests of meaning.
        groups: whether the audit is told what was planted where, as with `data.groups`.
    """
    options, plants = Options(), source.editions[case.edition]
    run = open_run(folder, [f"callbacks.reliance.level={level}", *(columns(plants) if groups else ())])
    ready(run)
    classifier = prompt_classifier(run) if kind == "prompts" else biased_probe(taught, run)
    examined = examine(run, classifier, options)
    audit = audit_examined(run, classifier, options, examined)
    truth = Truth(with_factors(folder, plants), classifier, options)
    culprits = {plant: truth.culprits(plant.class_name, planted(plant, truth)) for plant in plants}
    predicted = classifier.predict(test_embeddings(truth))
    told = {result.name: result.told for result in audit.classes}
    rows: dict[str, list[Any]] = {
        "plants": [plant_row(*pair, truth, audit, examined, predicted) for pair in culprits.items()],
        "findings": [finding_row(finding, culprits, truth) for finding in audit.findings],
        "corrections": [
            correction_row(run, classifier, finding, plant, truth)
            for finding in audit.findings
            if (plant := carried(finding, culprits))
        ],
        "classes": [class_row(result) for result in audit.classes],
        "detectors": list(detector_rows(truth, run, told)),
    }
    fixed = {"data": source.name, **case._asdict(), "classifier": kind, "level": level, "groups": groups}
    return {name: table(fixed, of, ROWS[name]._fields) for name, of in rows.items()}


def table(fixed: Mapping[str, Any], rows: Sequence[Any], names: Sequence[str]) -> pd.DataFrame:
    """Return the rows with what they have in common before them."""
    return pd.DataFrame([(*fixed.values(), *row) for row in rows], columns=[*fixed, *names])


def biased_probe(taught: Path, run: RunFolder) -> Classifier:
    """Return a linear probe fitted to the train embeddings of another run on the same CLIP."""
    saved = probe_of(ready(open_run(taught)))
    probe = saved.probe.to(run.data.class_embeddings)
    return Classifier(probe.weight, probe.bias, saved.class_names)


def columns(plants: Sequence[Plant]) -> list[str]:
    """Return the override that tells a run which columns of its table say what was planted."""
    return [f"data.groups=[{','.join(plant.factor for plant in plants)}]"]


def with_factors(folder: Path, plants: Sequence[Plant]) -> RunFolder:
    """Return a run whose images say what was planted, which the audit is not told."""
    run = open_run(folder, columns(plants))
    ready(run)
    return run


def planted(plant: Plant, truth: Truth) -> Tensor:
    """Return `[n]` bool, the test pictures with a cue."""
    values, of = truth.images.factors[plant.factor]
    return of == values.index(plant.value)


def carried(finding: Finding, culprits: Culprits) -> Plant | None:
    """Return the plant of the class that any latent of a finding carries."""
    latents = [culprit.latent for culprit in finding.culprits]
    mine = [plant for plant, culprit in culprits.items() if culprit[latents].any()]
    return next((plant for plant in mine if plant.class_name == finding.class_name), None)


def plant_row(
    plant: Plant, culprit: Tensor, truth: Truth, audit: Audit, examined: Examined, predicted: Tensor
) -> PlantRow:
    """Score what is said of the class of a plant; `predicted [n]` are the classes of the test pictures."""
    c, alive, cue = truth.names.index(plant.class_name), truth.alive, planted(plant, truth)
    others = truth.images.targets != list(truth.images.class_names).index(plant.class_name)
    taken = [float((predicted[others & part] == c).double().mean()) for part in (cue, ~cue)]
    findings = [finding for finding in audit.findings if finding.class_name == plant.class_name]
    true = [finding for finding in findings if carried(finding, {plant: culprit})]
    return PlantRow(
        *(plant.class_name, plant.value, plant.kind, *taken),
        culprits=int(culprit.sum()),
        precision=precision(culprit[alive], examined.ranking(c, plant.kind)[alive]),
        verdict=audit.classes[c].verdict,
        true=len(true),
        false=len(findings) - len(true),
        right_kind=sum(finding.kind == plant.kind for finding in true),
    )


def finding_row(finding: Finding, culprits: Culprits, truth: Truth) -> FindingRow:
    """Say what the worst latent of a finding stands for."""
    worst, plant = finding.culprits[0], carried(finding, culprits)
    detected = [
        name
        for c, name in enumerate(truth.images.class_names)
        if sparse_auroc(truth.latents, truth.images.targets == c)[worst.latent] >= DETECTS
    ]
    return FindingRow(
        *(finding.class_name, finding.kind, finding.severity, finding.harm.value, finding.harm.low),
        *(worst.latent, worst.label, plant.value if plant else "", ", ".join(detected)),
    )


def class_row(result: ClassResult) -> ClassRow:
    """Return what is kept of a result."""
    shares = (result.accuracy, result.told, result.unexpected_share)
    return ClassRow(result.name, result.verdict, *shares, len(result.findings))


def detector_rows(truth: Truth, run: RunFolder, told: Mapping[str, float | None]) -> Iterator[DetectorRow]:
    """Yield the detectors of every class."""
    for c, name in enumerate(truth.images.class_names):
        auroc = sparse_auroc(truth.latents, truth.images.targets == c)
        for latent in ((auroc >= DETECTS) & truth.alive).nonzero().flatten().tolist():
            label, named = run.latents.loc[latent, ["label", "named"]]
            yield DetectorRow(name, latent, float(auroc[latent]), label, bool(named), told[name])
