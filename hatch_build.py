"""Puts `conf`, `callbacks` and `train.py` into a wheel, where `lightning_sae.home` finds them.

They lie inside the package, so that nobody gets top-level modules of these names. A clone that is installed
with `pip install -e` has them beside it.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Shipped(BuildHookInterface[Any]):
    """What a wheel brings along beside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files and their places, in a wheel that is no editable one."""
        if version == "standard":
            for name in ("callbacks", "conf", "train.py"):
                build_data["force_include"][str(Path(self.root, name))] = f"lightning_sae/_shipped/{name}"
