"""What the audit of a run on real pictures says, against what was planted.

The culprits of a plant are the latents that predict its cue on the test pictures (AUROC at least 0.9) and
whose ablation lowers the class's score on test pictures with the cue and not of the class, as in
benchmarks/audit.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from audit import Truth
from pictured import Plant, Source
from real_runs import Case
from reliance import precision
from torch import Tensor

from lightning_sae.audit.auditing import audit_run
from lightning_sae.audit.choice import chosen_classifier
from lightning_sae.audit.examined import Examined, Options, examine
from lightning_sae.audit.findings import Audit, ClassResult, Finding
from lightning_sae.audit.seen import ready
from lightning_sae.metrics import sparse_auroc
from lightning_sae.run_folder import RunFolder, open_run

DETECTS = 0.95  # AUROC on test from which a latent is the detector of a class
Rows = list[dict[str, Any]]


def measure(source: Source, case: Case, folder: Path, kind: str, options: Options) -> dict[str, pd.DataFrame]:
    """The tables of a run and a classifier, `prompts` or `probe`: plants, findings, classes and detectors."""
    run, plants = open_run(folder), source.editions[case.edition]
    ready(run)
    classifier = chosen_classifier(run, kind)
    audit, examined = audit_run(run, classifier, options), examine(run, classifier, options)
    truth = Truth(with_factors(folder, plants), classifier, options)
    culprits = {plant: truth.culprits(plant.class_name, planted(plant, truth)) for plant in plants}
    tables = {
        "plants": [plant_row(plant, culprit, truth, audit, examined) for plant, culprit in culprits.items()],
        "findings": [finding_row(finding, culprits, truth) for finding in audit.findings],
        "classes": [class_row(result) for result in audit.classes],
        "detectors": detector_rows(truth, run, {result.name: result.told for result in audit.classes}),
    }
    fixed = {"data": source.name, **case._asdict(), "classifier": kind}
    return {name: pd.DataFrame([fixed | row for row in rows]) for name, rows in tables.items()}


def with_factors(folder: Path, plants: tuple[Plant, ...]) -> RunFolder:
    """A run whose images say what was planted, which the audit is not told."""
    columns = ",".join(plant.factor for plant in plants)
    run = open_run(folder, [f"data.groups=[{columns}]"])
    ready(run)
    return run


def planted(plant: Plant, truth: Truth) -> Tensor:
    """`[n]` bool, the test pictures with a cue."""
    values, of = truth.images.factors[plant.factor]
    return of == values.index(plant.value)


def plant_row(plant: Plant, culprit: Tensor, truth: Truth, audit: Audit, found: Examined) -> dict[str, Any]:
    """How a plant is found; `true` counts findings of its class with a culprit first, `false` the others."""
    c, alive = truth.names.index(plant.class_name), truth.alive
    findings = [finding for finding in audit.findings if finding.class_name == plant.class_name]
    true = [finding for finding in findings if culprit[finding.culprits[0].latent]]
    return {
        "class": plant.class_name,
        "factor": plant.value,
        "kind": plant.kind,
        "culprits": int(culprit.sum()),
        "precision": precision(culprit[alive], found.ranking(c, plant.kind)[alive]),
        "verdict": audit.classes[c].verdict,
        "true": len(true),
        "false": len(findings) - len(true),
        "right_kind": sum(finding.kind == plant.kind for finding in true),
    }


def finding_row(finding: Finding, culprits: Mapping[Plant, Tensor], truth: Truth) -> dict[str, Any]:
    """A finding, the plant of its class that its worst culprit carries, and the class that this detects."""
    worst = finding.culprits[0]
    mine = [plant for plant in culprits if plant.class_name == finding.class_name]
    targets = truth.images.targets
    auroc = [float(sparse_auroc(truth.latents, targets == c)[worst.latent]) for c in range(len(truth.names))]
    best = max(range(len(auroc)), key=auroc.__getitem__)
    return {
        "class": finding.class_name,
        "kind": finding.kind,
        "severity": finding.severity,
        "harm": finding.harm.value,
        "harm_low": finding.harm.low,
        "latent": worst.latent,
        "label": worst.label,
        "plant": ", ".join(plant.value for plant in mine if culprits[plant][worst.latent]),
        "detects": truth.images.class_names[best] if auroc[best] >= DETECTS else "",
    }


def class_row(result: ClassResult) -> dict[str, Any]:
    """What the audit says of a class."""
    return {
        "class": result.name,
        "verdict": result.verdict,
        "accuracy": result.accuracy,
        "told": result.told,
        "unexpected_share": result.unexpected_share,
        "findings": len(result.findings),
    }


def detector_rows(truth: Truth, run: RunFolder, told: Mapping[str, float | None]) -> Rows:
    """The latents that detect a class on test, with their labels, and how well the judge tells the class."""
    rows = []
    for c, name in enumerate(truth.images.class_names):
        auroc = sparse_auroc(truth.latents, truth.images.targets == c)
        for latent in ((auroc >= DETECTS) & truth.alive).nonzero().flatten().tolist():
            label, named = run.latents.loc[latent, ["label", "named"]]
            row = {"class": name, "latent": latent, "auroc": float(auroc[latent]), "label": label}
            rows.append(row | {"right": label == name, "named": bool(named), "told": told[name]})
    return rows
