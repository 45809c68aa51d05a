"""What the page says of a finding: culprits with their examples, tests, effect, advice."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lightning_sae.audit.findings import Audit, Change, Culprit, Effect, Evidence, Finding
from lightning_sae.audit.report.heatmaps import Heatmaps
from lightning_sae.audit.report.sheets import shortened, webp_uri
from lightning_sae.naming import LatentName
from lightning_sae.pages import compact, percent
from lightning_sae.thumbnails import thumbnail

SIDE = 128  # pixels of an example
EXAMPLES = 5  # of a culprit
CULPRITS = 5  # of a finding that are shown; the others are counted
PICTURED = 400  # examples of all findings together, heatmaps not counted; then the findings go without
_MEASURES = {
    "score": "score of the class",
    "accuracy": "accuracy on the class",
    "false_positives": "other images taken for it",
    "worst_group": "accuracy of its worst group",
}


class Bar(NamedTuple):
    """Start and length, in per cent of the whole width."""

    start: float
    length: float


def finding_views(audit: Audit, images: Any, heatmaps: Heatmaps | None) -> list[dict[str, Any]]:
    """All findings, in their order.

    Args:
        audit: whose findings.
        images: the validation split, RGB images or texts.
        heatmaps: of the images; `None` where the tokens are no places.
    """
    views, examples = [], 0
    for finding in audit.findings:
        examples += sum(len(culprit.examples[:EXAMPLES]) for culprit in finding.culprits[:CULPRITS])
        views.append(_finding(finding, images if examples <= PICTURED else None, heatmaps))
    return views


def _finding(finding: Finding, images: Any, heatmaps: Heatmaps | None) -> dict[str, Any]:
    shown = finding.culprits[:CULPRITS]
    return {
        "number": finding.number,
        "class": finding.class_name,
        "kind": finding.kind,
        "severity": finding.severity,
        "confidence": percent(finding.confidence),
        "share": percent(finding.share),
        "images": finding.images,
        "over": finding.over,
        "pictured": images is not None,
        "summary": finding.summary,
        "culprits": [_culprit(c, finding.class_name, images, heatmaps) for c in shown],
        "more": [{"latent": c.latent, "name": _name(c)} for c in finding.culprits[CULPRITS:]],
        "evidence": [_test(test) for test in finding.evidence],
        "effect": effect_rows(finding.effect),
        "advice": finding.advice,
    }


def _culprit(culprit: Culprit, class_name: str, images: Any, heatmaps: Heatmaps | None) -> dict[str, Any]:
    ids = list(culprit.examples[:EXAMPLES]) if images is not None else []
    is_text = bool(ids) and isinstance(images[ids[0]], str)
    maps = [] if heatmaps is None or not ids else heatmaps.draw(ids, culprit.latent, class_name, SIDE)
    return {
        "latent": culprit.latent,
        "name": _name(culprit),
        "alignment": _cosine(culprit.alignment),
        "p": compact(culprit.p_value, 2),
        "foreign": culprit.class_alignment < culprit.class_threshold,
        "class_alignment": _cosine(culprit.class_alignment),
        "class_threshold": _cosine(culprit.class_threshold),
        "attribution": compact(culprit.attribution),
        "share": percent(culprit.share),
        "bar": Bar(0, round(100 * culprit.share, 1)),
        "texts": [shortened(images[i]) for i in ids] if is_text else [],
        "pictures": [] if is_text else [webp_uri(thumbnail(images[i], SIDE)) for i in ids],
        "heatmaps": [webp_uri(picture) for picture in maps],
    }


def _name(culprit: Culprit) -> LatentName:
    return LatentName(culprit.label, culprit.named).or_number(culprit.latent)


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _test(test: Evidence) -> dict[str, Any]:
    return {
        "name": test.name.replace("_", " "),
        "value": compact(test.value),
        "threshold": compact(test.threshold),
        "p": compact(test.p_value, 2),
        "passed": test.passed,
        "meaning": test.meaning,
    }


def effect_rows(effect: Effect) -> list[dict[str, Any]]:
    """A row per measure that is there: its value as it is and without the culprits, with bars.

    Example:
        >>> row, = effect_rows(Effect(accuracy=Change(images=40, as_it_is=0.5, without=0.75)))
        >>> row["as_it_is"], row["without"], row["change"], row["bars"][1]
        ('50.0 %', '75.0 %', '+25.0', Bar(start=0.0, length=75.0))
    """
    changes = {key: getattr(effect, key) for key in _MEASURES}
    return [_change(key, change) for key, change in changes.items() if change is not None]


def _change(key: str, change: Change) -> dict[str, Any]:
    values = (change.as_it_is, change.without)
    share = key != "score"
    said: Callable[[float], str] = (lambda x: percent(x, 1)) if share else compact
    difference = change.without - change.as_it_is
    points = round(100 * difference, 1)
    change_text = (f"{points:+.1f}" if points else "0.0") if share else f"{difference:+.3g}"
    return {
        "measure": _MEASURES[key],
        "group": change.group,
        "images": change.images,
        "as_it_is": said(change.as_it_is),
        "without": said(change.without),
        "change": change_text.replace("-", "−"),
        "bars": _bars(values, 1.0 if share else None),
    }


def _bars(values: Sequence[float], whole: float | None) -> list[Bar]:
    """On one scale, from 0 to the right where positive, to the left where negative."""
    low, high = min(0.0, *values), whole or max(0.0, *values)
    scale = 100 / ((high - low) or 1.0)
    return [Bar(round(scale * (min(v, 0.0) - low), 1), round(scale * abs(v), 1)) for v in values]
