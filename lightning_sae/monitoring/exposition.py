"""The state of a monitor as metrics, in the text format that Prometheus reads."""

from collections.abc import Iterator
from pathlib import Path

from lightning_sae.files import write_atomic
from lightning_sae.monitoring.alarms import MonitorRecord

FILE = "metrics.prom"
PREFIX = "lightning_sae_monitor"
Rows = list[tuple[dict[str, str], float]]


def metrics_text(record: MonitorRecord) -> str:
    """Return the metrics: images, alarms, and the largest e-value of each family.

    `node_exporter` reads the file from its textfile folder; a service hands the text out at `/metrics`.
    """
    families = record.families
    parts: list[tuple[str, str, str, Rows]] = [
        ("images_total", "counter", "Images that have been watched.", [({}, record.seen)]),
        ("bad_images_total", "counter", "Images that could not be read.", [({}, record.bad)]),
        (
            "alarms",
            "gauge",
            "Alarms that stand.",
            [({"family": each.family}, each.alarms) for each in families],
        ),
        (
            "log10_e_value",
            "gauge",
            "Largest log10 of an e-value.",
            [({"family": each.family}, each.log10_e) for each in families],
        ),
        (
            "mean",
            "gauge",
            "Mean since the change of what an alarm stands for.",
            [
                (
                    {"family": alarm.family, "latent": str(alarm.latent), "label": alarm.label},
                    alarm.now.value,
                )
                for alarm in record.standing
            ],
        ),
    ]
    lines = [line for name, kind, words, rows in parts for line in _metric(name, kind, words, rows)]
    return "\n".join(lines) + "\n"


def write_metrics(record: MonitorRecord, folder: Path) -> Path:
    """Write `metrics.prom`, whole or not at all, and return its path."""
    path = folder / FILE
    write_atomic(path, metrics_text(record).encode())
    return path


def _metric(name: str, kind: str, words: str, rows: Rows) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {words}"
    yield f"# TYPE {PREFIX}_{name} {kind}"
    for labels, value in rows:
        inside = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
        yield f"{PREFIX}_{name}{{{inside}}} {value:g}" if inside else f"{PREFIX}_{name} {value}"


def escaped(text: str) -> str:
    r"""Return the value of a label.

    Example:
        >>> print(escaped('a "cat"\n'))
        a \"cat\"\n
    """
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
