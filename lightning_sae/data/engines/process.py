"""Capture in the process itself, and what the workers of all engines do."""

from typing import Any

import torch
from hydra.utils import instantiate

from lightning_sae.data.datamodule import ActivationDataModule


def in_process(data: ActivationDataModule, config: dict[str, Any]) -> None:
    """Captures here, on one device."""
    data.fill()


def build(config: dict[str, Any], num_threads: int | None = None) -> ActivationDataModule:
    """The datamodule of a configuration, in a worker.

    Args:
        config: the resolved `data` group.
        num_threads: of torch; `None` leaves them as they are.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    data: ActivationDataModule = instantiate(config, _convert_="all")
    return data


def work(config: dict[str, Any], num_threads: int | None = None) -> None:
    """What one of several equal workers does: its share, until nothing is missing."""
    build(config, num_threads).fill()
