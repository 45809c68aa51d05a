"""A deployed model, watched: is what its predictions rely on still what it was?"""

from typing import TYPE_CHECKING

from lightning_sae.lazy import lazily

if TYPE_CHECKING:
    from lightning_sae.monitoring.alarms import Alarm as Alarm
    from lightning_sae.monitoring.alarms import MonitorRecord as MonitorRecord
    from lightning_sae.monitoring.alarms import read_record as read_record
    from lightning_sae.monitoring.fit import fit_monitor as fit_monitor
    from lightning_sae.monitoring.fit import fit_reference as fit_reference
    from lightning_sae.monitoring.monitor import Monitor as Monitor
    from lightning_sae.monitoring.state import merge_states as merge_states

__getattr__, __dir__ = lazily(
    __name__,
    {
        ".alarms": ["Alarm", "MonitorRecord", "read_record"],
        ".fit": ["fit_monitor", "fit_reference"],
        ".monitor": ["Monitor"],
        ".state": ["merge_states"],
    },
)
