"""Everything that a monitor writes beside its reference."""

from pathlib import Path

from lightning_sae.monitoring.alarms import MonitorRecord, write_record
from lightning_sae.monitoring.exposition import write_metrics
from lightning_sae.monitoring.page import write_page
from lightning_sae.monitoring.reference import Reference
from lightning_sae.monitoring.saying import record_of
from lightning_sae.monitoring.state import State, save_state
from lightning_sae.runs.folder import RunFolder


def write_all(
    reference: Reference, state: State, folder: Path, run: RunFolder | None = None
) -> MonitorRecord:
    """Write the state, `monitor.json`, `monitor.html` and `metrics.prom`, each whole or not at all.

    Args:
        reference: what was usual.
        state: what has been seen.
        folder: of the monitor.
        run: whose images show on the page what a latent is, where pictures were asked for.
    """
    save_state(state, folder)
    record = record_of(reference, state)
    write_record(record, folder)
    write_page(record, state.recent, folder, run)
    write_metrics(record, folder)
    return record
