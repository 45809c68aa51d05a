"""The parts of the page about a finding: culprits with their examples, tests, effect, advice."""

from typing import Any, NamedTuple

from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.findings import Audit, Change, Culprit, Effect, EvidenceTest, Finding, PairEvidence
from lightning_sae.audit.origins.origin import CulpritSource, Origin
from lightning_sae.audit.report.heatmaps import Heatmaps
from lightning_sae.browser.sheets import shortened
from lightning_sae.concepts.naming import LatentName
from lightning_sae.report import compact, percent, webp_uri
from lightning_sae.report.thumbnails import thumbnail

SIDE = 128  # pixels of an example
EXAMPLES = 5  # of a culprit
CULPRITS = 5  # of a finding that are shown; the others are counted
PICTURED = 400  # examples of all findings together, heatmaps not counted; then the findings go without
TOP = 5  # top images of a culprit
_MEASURES = {
    "false_positives": "other images taken for it",
    "cue_false_positives": "of those with the cue",
    "accuracy": "accuracy on the class",
    "cue_accuracy": "on its images with the cue",
    "plain_accuracy": "on its images without the cue",
    "worst_group": "accuracy of its worst group",
}


class Bar(NamedTuple):
    """Start and length, in per cent of the whole width."""

    start: float
    length: float


def finding_views(audit: Audit, images: Any, heatmaps: Heatmaps | None) -> list[dict[str, Any]]:
    """Return all findings, in their order.

    Args:
        audit: audit with the findings.
        images: the validation split, RGB images or texts.
        heatmaps: heatmaps of the images; `None` where the tokens are no places.
    """
    views, examples = [], 0
    for finding in audit.findings:
        for culprit in finding.culprits[:CULPRITS]:
            examples += len(culprit.examples[:EXAMPLES]) + len(culprit.top_images[:TOP])
        shown = finding_view(finding, images if examples <= PICTURED else None, heatmaps)
        views.append({**shown, "seeds": audit.said_of_seeds(finding)})
    return views


def finding_view(finding: Finding, images: Any, heatmaps: Heatmaps | None) -> dict[str, Any]:
    """Return the content of the page for a finding; without `images` it has no examples."""
    shown = finding.culprits[:CULPRITS]
    return {
        "number": finding.number,
        "class": finding.class_name,
        "kind": finding.kind,
        "severity": finding.severity,
        "harm": interval(finding.harm),
        "harm_of": finding.harm_of,
        "net": None if finding.effect.net is None else points(finding.effect.net),
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
        "standing": finding.standing,
        "pairs": None if finding.pairs is None else _pairs(finding.pairs),
        "origins": [_origin(origin, finding) for origin in finding.origins],
    }


def _origin(origin: Origin, finding: Finding) -> dict[str, Any]:
    names = {culprit.latent: _name(culprit) for culprit in finding.culprits}
    return {
        "layer": origin.layer,
        "summary": f"{origin.summary[0].upper()}{origin.summary[1:]}",
        "rows": [
            {
                "latent": traced.latent,
                "name": names[traced.latent],
                "images": traced.images,
                "sources": [
                    {"latent": source.latent, "name": _name(source), "share": _unbroken(source.share)}
                    for source in traced.sources
                ],
                **{name: percent(getattr(traced, name)) for name in ("latents", "error", "outside", "bias")},
            }
            for traced in origin.culprits
        ],
    }


def _unbroken(share: float) -> str:
    """Return a share in per cent, written so that no line breaks inside it."""
    return percent(share).replace(" ", "\N{NO-BREAK SPACE}")


def _pairs(found: PairEvidence) -> dict[str, Any]:
    return {
        "value": found.value,
        "pairs": found.pairs,
        "right_way": percent(found.right_way),
        "rows": [
            ("activation of the culprits, in units of their own scale", change(found.activation)),
            ("margin of the class", change(found.score)),
            ("of that, gone without the culprits", change(found.carried)),
        ],
    }


def change(estimate: Estimate) -> str:
    """Return a difference with its interval.

    Example:
        >>> change(Estimate(value=0.914, low=-0.06, high=1.2))
        '+0.91 (−0.06 to +1.20)'
    """
    value, low, high = (f"{x:+.2f}".replace("-", "−") for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


def _culprit(culprit: Culprit, class_name: str, images: Any, heatmaps: Heatmaps | None) -> dict[str, Any]:
    ids = list(culprit.examples[:EXAMPLES]) if images is not None else []
    tops = culprit.top_images[:TOP]
    is_text = bool(ids) and isinstance(images[ids[0]], str)
    maps = [] if heatmaps is None or not ids else heatmaps.draw(ids, culprit.latent, class_name, SIDE)
    return {
        "latent": culprit.latent,
        "name": _name(culprit),
        "alignment": _cosine(culprit.alignment),
        "p": compact(culprit.p_value, 2),
        "agreement": _cosine(culprit.agreement),
        "p_random": compact(culprit.p_random, 2),
        "p_class": compact(culprit.p_class, 2),
        "net": None if culprit.net is None else points(culprit.net),
        "attribution": compact(culprit.attribution),
        "share": percent(culprit.share),
        "bar": Bar(0, round(100 * culprit.share, 1)),
        "texts": [shortened(images[i]) for i in ids] if is_text else [],
        "pictures": [] if is_text else [webp_uri(thumbnail(images[i], SIDE)) for i in ids],
        "heatmaps": [webp_uri(picture) for picture in maps],
        "tops": [] if is_text or images is None else [webp_uri(thumbnail(images[i], SIDE)) for i in tops],
    }


def _name(latent: Culprit | CulpritSource) -> LatentName:
    return LatentName(latent.label, latent.named).or_number(latent.latent)


def interval(estimate: Estimate) -> str:
    """Return a share of images with its interval.

    Example:
        >>> interval(Estimate(value=0.084, low=0.066, high=0.103))
        '8.4 % (6.6 to 10.3)'
    """
    return f"{percent(estimate.value, 1)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})".replace(
        "-", "−"
    )


def points(estimate: Estimate) -> str:
    """Return a change of an error in points, with its interval.

    Example:
        >>> points(Estimate(value=0.0119, low=0.0073, high=0.0149))
        '+1.2 (+0.7 to +1.5)'
    """
    value, low, high = (
        f"{100 * x:+.1f}".replace("-", "−") for x in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _test(test: EvidenceTest) -> dict[str, Any]:
    return {
        "name": test.name.replace("_", " "),
        "value": compact(test.value),
        "threshold": compact(test.threshold),
        "p": compact(test.p_value, 2),
        "passed": test.passed,
        "meaning": test.meaning,
    }


def effect_rows(effect: Effect) -> list[dict[str, Any]]:
    """Return a row per measure of an effect: its value as it is and without the culprits, with bars.

    Example:
        >>> row, = effect_rows(Effect(accuracy=Change(images=40, as_it_is=0.5, without=0.75)))
        >>> row["as_it_is"], row["without"], row["change"], row["bars"][1]
        ('50.0 %', '75.0 %', '+25.0', Bar(start=0.0, length=75.0))
    """
    changes = {key: getattr(effect, key) for key in _MEASURES}
    return [_change(key, change) for key, change in changes.items() if change is not None]


def _change(key: str, change: Change) -> dict[str, Any]:
    values = (change.as_it_is, change.without)
    difference = round(100 * (change.without - change.as_it_is), 1)
    change_text = f"{difference:+.1f}" if difference else "0.0"
    return {
        "measure": _MEASURES[key],
        "group": change.group,
        "images": change.images,
        "as_it_is": percent(change.as_it_is, 1),
        "without": percent(change.without, 1),
        "change": change_text.replace("-", "−"),
        "bars": [Bar(0.0, round(100 * value, 1)) for value in values],
    }
