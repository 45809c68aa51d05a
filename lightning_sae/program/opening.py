"""The run that a command is about."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sae.home import make_importable

if TYPE_CHECKING:
    from lightning_sae.runs.folder import RunFolder


def open_named(
    run: Path, moved: Sequence[str] | None, device: str, trust: Sequence[str] | None
) -> "RunFolder":
    """Open the run that a user has named on a device, and say which device that is.

    Modules that the user trusts may lie in the working directory. Without such trust nothing is imported from
    there, as it may be the folder of a stranger.

    Raises:
        FileNotFoundError: as `open_run`.
        ValueError: as `open_run`, or there is no such device.
    """
    from lightning_sae.devices.device import use_device
    from lightning_sae.runs.folder import open_run

    if trust:
        make_importable(None, Path.cwd())
    return open_run(run, moved or (), use_device(device), trust or ())
