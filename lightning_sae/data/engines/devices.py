"""Capture on several devices of one machine."""

from functools import partial
from typing import Any

import torch
from lightning.fabric import Fabric

from lightning_sae.data.datamodule import ActivationDataModule
from lightning_sae.data.engines.process import work


def devices(
    data: ActivationDataModule,
    config: dict[str, Any],
    accelerator: str = "auto",
    devices: int | str | list[int] = "auto",
    num_threads: int | None = None,
) -> None:
    """Start a process for each device, as Lightning counts them; each captures its share.

    Args:
        data: not used, every process builds its own.
        config: the resolved `data` group.
        accelerator: as in Lightning's `Trainer`; with `cpu`, `devices` is a number of processes.
        devices: as in Lightning's `Trainer`.
        num_threads: of torch in each process; `None` is an equal share of this process's threads.
    """
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy="ddp_spawn")
    threads = num_threads or max(1, torch.get_num_threads() // fabric.world_size)
    fabric.launch(partial(_work, config=config, num_threads=threads))


def _work(fabric: Fabric, config: dict[str, Any], num_threads: int) -> None:
    work(config, num_threads, fabric.world_size, fabric.device)
