"""The page of an audit, and the policy that holds what may run in it."""

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from lightning_sae import __version__
from lightning_sae.audit.findings import Audit
from lightning_sae.audit.report import view
from lightning_sae.audit.report.evidence import finding_views
from lightning_sae.audit.report.heatmaps import Heatmaps
from lightning_sae.browser import first_examples, latent_columns, module
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.classifiers.outputs import Output
from lightning_sae.files import write_atomic
from lightning_sae.report import render
from lightning_sae.report.curves import HEIGHT, WIDTH, curves
from lightning_sae.report.packing import packed
from lightning_sae.report.policy import policy
from lightning_sae.report.style import style_of
from lightning_sae.runs.folder import RunFolder

FILE = "audit.html"
SCRIPTS = ("table", "card", "main")  # behind those of the browser
OPEN_CLASSES = 60  # with more of a verdict than that, the classes without findings are folded


def write_report(
    audit: Audit,
    run: RunFolder,
    folder: Path,
    classifier: Classifier | None = None,
    output: Output | str | None = None,
) -> Path:
    """Write `audit.html`, whole or not at all, and return its path.

    The file needs nothing beside it. Every text in it is escaped; its own policy allows its one script, and
    no request.

    Args:
        audit: the audit.
        run: run that was audited; images, latents, `metrics.csv` and `attribution.csv` are read.
        folder: folder that the page is written to.
        classifier: the classifier under audit; it gives heatmaps if the tokens are places in the image.
        output: the output, needed for one of your own, as the audit holds only its name.
    """
    path = folder / FILE
    write_atomic(path, render(__package__, _context(audit, run, classifier, output)).encode())
    return path


def _context(
    audit: Audit, run: RunFolder, classifier: Classifier | None, output: Output | str | None
) -> dict[str, Any]:
    drivers, same = drivers_of(audit, run)
    culprits = culprits_of(audit)
    examples = first_examples(run, culprits)
    columns = latent_columns(run, drivers, culprits, examples)
    heatmaps = None if classifier is None else Heatmaps.of(run, classifier, output or audit.subject.output)
    style, script = style_of(__package__), module(__package__, *SCRIPTS)
    return {
        "policy": policy(style, script),
        "style": Markup(style),
        "script": Markup(script),
        "title": f"Audit of {audit.subject.run}",
        "summary": view.summary(audit),
        "classes": view.class_groups(audit, drivers),
        "n_classes": len(audit.classes),
        "open_classes": OPEN_CLASSES,
        "findings": finding_views(audit, run.data.images("val"), heatmaps),
        "heatmaps": heatmaps is not None,
        "n_latents": len(run.latents),
        "n_examples": len(columns["examples"]),
        "latents": packed(columns),
        "sheets": examples.sheets.sheets,
        "same_prompts": same,
        "linked": True,
        "curves": curves(run.table("metrics")),
        "frame": (WIDTH, HEIGHT),
        "version": audit.library_version,
        "written_by": __version__,
    }


def culprits_of(audit: Audit) -> dict[int, list[int]]:
    """Return the numbers of the findings in which each latent is a culprit, the most severe first."""
    found: dict[int, list[int]] = {}
    for finding in audit.findings:
        for culprit in finding.culprits:
            found.setdefault(culprit.latent, []).append(finding.number)
    return found


def drivers_of(audit: Audit, run: RunFolder) -> tuple[pd.DataFrame, bool]:
    """Return the rows of the run's `attribution.csv`, and whether they apply to the audit.

    The rows apply where they are about the audited classes and prompts.
    """
    table = run.table("attribution")
    own = {name: tuple(prompts) for name, prompts in zip(run.data.class_names, run.data.prompts, strict=True)}
    same = all(own.get(result.name) == result.prompts for result in audit.classes)
    if not len(table) or not same:
        return pd.DataFrame(columns=["class", "latent", "attribution", "share"]), same
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("attribution", "share")}
    return table.assign(**numbers), same
