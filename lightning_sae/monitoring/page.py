"""`monitor.html`: what has changed, on one page that needs nothing beside it."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from lightning_sae.audit.estimate import Estimate
from lightning_sae.audit.report.view import counted
from lightning_sae.files import write_atomic
from lightning_sae.monitoring.alarms import Alarm, MonitorRecord
from lightning_sae.monitoring.recent import Recent
from lightning_sae.report import compact, data_uri, percent, render, webp_uri
from lightning_sae.report.policy import policy
from lightning_sae.report.style import style_of
from lightning_sae.report.thumbnails import thumbnail
from lightning_sae.runs.folder import RunFolder

FILE = "monitor.html"
SIDE = 64  # pixels of an example
TITLES = {
    "firing": "how often each latent fires",
    "attribution": "how much each latent drives the predictions",
    "culprits": "how much the culprits of the audit's findings drive",
    "error": "what no latent explains",
}


def write_page(record: MonitorRecord, recent: Recent, folder: Path, run: RunFolder | None = None) -> Path:
    """Write `monitor.html`, whole or not at all, and return its path.

    Every text in it is escaped; its own policy allows no script and no request.

    Args:
        record: what there is to say.
        recent: the latest images, with pictures where these were asked for.
        folder: where to.
        run: whose validation images show what a latent is; `None` shows none of them.
    """
    path = folder / FILE
    write_atomic(path, render(__package__, _context(record, recent, run)).encode())
    return path


def _context(record: MonitorRecord, recent: Recent, run: RunFolder | None) -> dict[str, Any]:
    style = style_of(__package__)
    pictures = dict(zip(recent.places, recent.pictures, strict=True))
    return {
        "policy": policy(style, ""),
        "style": Markup(style),
        "title": f"Monitor of {Path(record.run).name}",
        "sentence": sentence(record),
        "facts": {
            "watched": counted(record.seen, "image"),
            "machines": str(record.machines),
            "cannot be read": counted(record.bad, "image"),
            "reference": f"{record.reference}, {counted(record.reference_images, 'image')}",
            "chance of any alarm without a change": f"at most {percent(record.alpha)}",
        },
        "families": [
            {
                "title": TITLES[each.family],
                "tests": each.tests,
                "log10_e": compact(each.log10_e, 2),
                "alarms": each.alarms,
            }
            for each in record.families
        ],
        "alarms": [_alarm(alarm, pictures, run) for alarm in record.alarms],
        "version": record.library_version,
        "side": SIDE,
    }


def sentence(record: MonitorRecord) -> str:
    """Return how many alarms stand, in one sentence."""
    standing = len(record.standing)
    if not standing:
        return f"No alarm stands after {counted(record.seen, 'image')}."
    first = min(record.standing, key=lambda alarm: alarm.raised)
    stand = "stands" if standing == 1 else "stand"
    return f"{counted(standing, 'alarm')} {stand}; the first was raised after image {first.raised:,}."


def _alarm(alarm: Alarm, pictures: dict[int, bytes], run: RunFolder | None) -> dict[str, Any]:
    most = max(alarm.before.high, alarm.now.high)
    return {
        "sentence": alarm.sentence,
        "standing": alarm.standing,
        "direction": alarm.direction,
        "family": alarm.family,
        "raised": f"{alarm.raised:,}",
        "log10_e": compact(alarm.log10_e, 3),
        "bars": [(name, _bar(part, most)) for name, part in (("before", alarm.before), ("now", alarm.now))],
        "before": _before(alarm, run) if any(pictures.values()) else [],
        "now": [data_uri(pictures[i], "webp") for i in alarm.examples_now if pictures.get(i)],
    }


def _bar(estimate: Estimate, most: float) -> dict[str, float]:
    """Return the lengths of a mean and its interval on a bar, in percent of `most`."""
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (round(100 * end / (most or 1), 1) for end in ends)
    return {"length": value, "low": low, "width": round(high - low, 1)}


def _before(alarm: Alarm, run: RunFolder | None) -> list[str]:
    if run is None or alarm.latent is None:
        return []
    images = run.data.images("val")
    shown = run.top_images(alarm.latent)[: len(alarm.examples_before)]
    return [webp_uri(thumbnail(images[i], SIDE)) for i in shown]
