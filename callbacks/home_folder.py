"""The home folder in the place of a run."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lightning_sae.paths import user_path


class HomeFolder(Callback):
    """Takes `~` in `hydra.run.dir` as the home folder, before Hydra makes a folder of that name."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the whole path."""
        config.hydra.run.dir = str(user_path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuses it for a multirun, whose jobs Hydra composes by themselves.

        Raises:
            ValueError: `hydra.sweep.dir` begins with `~`.
        """
        if str(config.hydra.sweep.dir).startswith("~"):
            raise ValueError(f"hydra.sweep.dir must be a whole path, got {config.hydra.sweep.dir}")
