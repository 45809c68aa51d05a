"""The last words of a multirun, by Hydra's callback."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SweepRanking(Callback):
    """Prints at the end of a multirun which jobs are best, which failed, and the command that compares them.

    It reads their folders alone, so that it makes no difference which processes they ran in, and in which
    call of the same sweep.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the ranking."""
        from rich.console import Console  # and what reads runs: not before a sweep has ended

        from lightning_sae.compare.ranking import print_ranking, rank_jobs

        metrics, directions = config.optimized_metric, config.hydra.sweeper.get("direction")
        folder = Path(config.hydra.sweep.dir)
        print_ranking(Console(), rank_jobs(folder, _texts(metrics), _texts(directions)), folder)


def _texts(given: Any) -> list[str]:
    """Return one value or a list of them as a list; none for `None`."""
    return [] if given is None else [given] if isinstance(given, str) else [str(one) for one in given]
