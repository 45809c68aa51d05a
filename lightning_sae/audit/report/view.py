"""The summary and the classes of an audit's page, as plain values."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import pandas as pd

from lightning_sae.audit.findings import (
    ONE_SEED,
    SEVERITIES,
    Audit,
    ClassResult,
    GroupGap,
    Kind,
    Subject,
    Verdict,
)
from lightning_sae.concepts.naming import LatentName
from lightning_sae.report import compact, percent

PROMPTS = 3  # of a class; the others are counted
DRIVERS = 3  # latents of a class
GAPS = 3  # groups of a class, those with the largest gaps
WORST = 5  # findings that the summary names
_GROUPS: dict[Verdict, str] = {
    "findings": "with findings",
    "no findings": "without findings",
    "cannot be told": "of which it cannot be told",
    "not enough evidence": "without enough evidence",
}


def sentence(audit: Audit) -> str:
    """Return the verdict of an audit in one sentence.

    Example:
        >>> subject = dict.fromkeys(Subject.model_fields) | {"run": "a"}
        >>> none = Audit.model_construct(subject=subject, findings=(), classes=())
        >>> sentence(none)
        'No class could be judged: too few images are predicted as any of them.'
    """
    judged = sum(result.verdict in ("findings", "no findings") for result in audit.classes)
    if not judged and any(result.verdict == "cannot be told" for result in audit.classes):
        return "No class could be judged: these images do not show what drives them."
    if not judged:
        return "No class could be judged: too few images are predicted as any of them."
    if not audit.findings:
        return f"Nothing unintended was found in {counted(judged, 'class')}."
    led = len({finding.class_name for finding in audit.findings})
    severe = Counter(finding.severity for finding in audit.findings)
    worst = next(severity for severity in reversed(SEVERITIES) if severe[severity])
    return (
        f"{led} of {counted(judged, 'class')} {'relies' if led == 1 else 'rely'} on something that nobody "
        f"intended: {counted(len(audit.findings), 'finding')}, {severe[worst]} of {worst} severity."
    )


def counted(n: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed.

    Example:
        >>> counted(1, "class"), counted(2, "class"), counted(1200, "image")
        ('1 class', '2 classes', '1 200 images')
    """
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{n:,} ".replace(",", " ") + (what if n == 1 else plural)


def summary(audit: Audit) -> dict[str, Any]:
    """Return the verdicts, findings by kind and severity, and what was audited."""
    verdicts = Counter(result.verdict for result in audit.classes)
    count = Counter((finding.kind, finding.severity) for finding in audit.findings)
    severities = list(reversed(SEVERITIES))
    return {
        "sentence": sentence(audit),
        "seeds": _said_of_seeds(audit),
        "worst": [
            {
                "number": f.number,
                "severity": f.severity,
                "kind": f.kind,
                "summary": f.summary,
                "seeds": audit.said_of_seeds(f),
            }
            for f in audit.findings[:WORST]
        ],
        "more": max(0, len(audit.findings) - WORST),
        "verdicts": [(verdict, verdicts[verdict]) for verdict in get_args(Verdict)],
        "severities": severities,
        "kinds": [(kind, [count[kind, severity] for severity in severities]) for kind in get_args(Kind)],
        "subject": _subject(audit.subject),
        "judge": audit.subject.judge,
        "judge_independent": audit.subject.judge_independent,
    }


def _said_of_seeds(audit: Audit) -> str:
    """Return the sentence that says with how many seeds the findings were compared."""
    if audit.seeds == 1:
        return f"{ONE_SEED[0].upper()}{ONE_SEED[1:]}."
    return f"Each finding was looked for in {counted(audit.seeds - 1, 'other seed')} of the same recipe."


def _subject(subject: Subject) -> list[tuple[str, str]]:
    classifier = {"prompts": "zero-shot prompts", "probe": "linear probe"}[subject.classifier]
    rows = {
        "run": subject.run,
        "CLIP": subject.clip,
        "hook point": f"{subject.hook_point}, tokens {subject.tokens}",
        "classifier": f"{classifier}, score: {subject.output}",
        "accuracy": percent(subject.accuracy, digits=1),
        "data": f"{subject.data}, {counted(subject.images, 'validation image')}",
        "judge": subject.judge,
        "FVU": compact(subject.fvu),
    }
    return [(name, text) for name, text in rows.items() if text]


def class_groups(audit: Audit, drivers: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the verdict -> rows of its classes, those with the largest unexpected share first."""
    severity = {finding.number: finding.severity for finding in audit.findings}
    culprits = {(f.class_name, culprit.latent) for f in audit.findings for culprit in f.culprits}
    driven = {str(name): rows for name, rows in drivers.groupby("class")} if len(drivers) else {}
    rows: dict[Verdict, list[dict[str, Any]]] = {verdict: [] for verdict in get_args(Verdict)}
    for result in sorted(audit.classes, key=lambda result: -(result.unexpected_share or 0)):
        strongest = _drivers(result.name, driven.get(result.name), culprits)
        findings = [(number, severity.get(number, "low")) for number in result.findings]
        rows[result.verdict].append(_class_row(result, findings, strongest))
    return [
        {"verdict": verdict, "title": f"{counted(len(found), 'class')} {_GROUPS[verdict]}", "rows": found}
        for verdict, found in rows.items()
        if found
    ]


def _class_row(
    result: ClassResult, findings: Sequence[tuple[int, str]], drivers: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    more = len(result.prompts) - PROMPTS
    return {
        "name": result.name,
        "prompts": [*result.prompts[:PROMPTS], *([f"and {more} more"] if more > 0 else [])],
        "images": result.images,
        "accuracy": percent(result.accuracy),
        "share": result.unexpected_share,
        "unexpected": percent(result.unexpected_share),
        "findings": findings,
        "reason": result.reason,
        "gaps": [_gap(gap) for gap in result.gaps[:GAPS]],
        "drivers": drivers,
    }


def _gap(gap: GroupGap) -> str:
    """Return in a few words the group of images on which the class goes wrong more often."""
    what = {"false_positives": "taken for it", "misses": "missed"}[gap.measure]
    share, elsewhere = (
        percent(part, 1).replace(" ", "\N{NO-BREAK SPACE}") for part in (gap.share, gap.elsewhere)
    )
    return f"{gap.group}: {share} {what}, elsewhere {elsewhere}"


def _drivers(name: str, rows: pd.DataFrame | None, culprits: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """Return the latents that drive a class most."""
    if rows is None:
        return []
    strongest = rows[rows["attribution"] > 0].nlargest(DRIVERS, "attribution")
    return [
        {
            "latent": int(row["latent"]),
            "name": LatentName.of(row).or_number(int(row["latent"])),
            "share": percent(row["share"]),
            "culprit": (name, int(row["latent"])) in culprits,
        }
        for row in strongest.to_dict("records")
    ]
