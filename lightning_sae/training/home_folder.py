"""The home folder in the place of a run."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lightning_sae.files import user_path
from lightning_sae.trust.control_characters import visible


class HomeFolder(Callback):
    """Takes `~` in `hydra.run.dir` and `hydra.sweep.dir` as the home folder, and makes the folder.

    Hydra makes it before the program begins, and ends in a traceback where it cannot.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the whole path."""
        config.hydra.run.dir = str(user_path(config.hydra.run.dir))
        _make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the whole path, also among the words by which Hydra composes each job."""
        given = config.hydra.sweep.dir
        config.hydra.sweep.dir = str(user_path(given))
        if config.hydra.sweep.dir != given:
            quoted = config.hydra.sweep.dir.replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        _make(config.hydra.sweep.dir, "hydra.sweep.dir")


def _make(folder: str, setting: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(visible(f"cannot make the folder {setting}={folder}: {error.strerror}. Choose another"))
