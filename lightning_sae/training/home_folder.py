"""The home folder in the place of a run."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lightning_sae.files import user_path


class HomeFolder(Callback):
    """Takes `~` in `hydra.run.dir` and `hydra.sweep.dir` as the home folder, before Hydra makes a folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the whole path."""
        config.hydra.run.dir = str(user_path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the whole path, also among the words by which Hydra composes each job."""
        given = config.hydra.sweep.dir
        config.hydra.sweep.dir = str(user_path(given))
        if config.hydra.sweep.dir != given:
            quoted = config.hydra.sweep.dir.replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
