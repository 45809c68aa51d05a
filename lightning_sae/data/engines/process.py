"""Capture in the process itself, and what the workers of all engines do."""

from typing import Any

import torch

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.devices.device import find_device
from lightning_sae.trust.targets import instantiate


def in_process(data: ActivationDataModule, config: dict[str, Any]) -> None:
    """Capture here, on the device of the datamodule."""
    data.fill()


def build(config: dict[str, Any], num_threads: int | None = None, processes: int = 1) -> ActivationDataModule:
    """Return the datamodule of a configuration, in a worker.

    Args:
        config: the resolved `data` group.
        num_threads: of torch; `None` leaves them as they are.
        processes: of this machine that capture at the same time, and share its cores.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    data: ActivationDataModule = instantiate(config, trusted=None)
    data.processes = processes
    return data


def work(
    config: dict[str, Any],
    num_threads: int | None = None,
    processes: int = 1,
    device: torch.device | None = None,
) -> None:
    """Do what one of several equal workers does: capture its share, until nothing is missing.

    Args:
        config: the resolved `data` group.
        num_threads: of torch; `None` leaves them as they are.
        processes: of this machine that capture at the same time, and share its cores.
        device: its own; `None` is the GPU where there is one, else the CPU.
    """
    build(config, num_threads, processes).to(device or find_device()).fill()
