"""train.py on the pretend device."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_sae.data.store import activations as store

sys.path.insert(0, str(Path(__file__).parent))

from pretend import DEVICE, on_the_cpu, pretend

collect_ignore = ["pretend.py"]  # registers the device, once


class PretendAccelerator(CPUAccelerator):
    """What Lightning asks of the kind of a device."""

    def setup_device(self, device: torch.device) -> None: ...

    def setup(self, trainer: Any) -> None: ...

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [DEVICE]


@pytest.fixture(autouse=True)
def stores_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores below the limit are held there, as a GPU with a memory of its own holds them."""
    monkeypatch.setattr(store, "_has_room", lambda device, size: device.type == "pretend")


@pytest.fixture(scope="session")
def on_pretend(train_py: Callable[..., Any]) -> Callable[..., None]:
    """Runs train.py with some arguments on the pretend device."""

    def run(*arguments: str) -> None:
        made, save = pl.Trainer, torch.save

        def trainer(**settings: Any) -> pl.Trainer:
            settings |= {"strategy": SingleDeviceStrategy(DEVICE, PretendAccelerator()), "devices": 1}
            return made(**settings | {"accelerator": "auto"})

        with pytest.MonkeyPatch.context() as patch, pretend():
            patch.setattr(pl, "Trainer", trainer)
            patch.setattr(torch, "save", lambda what, *where: save(on_the_cpu(what), *where))
            said = train_py(*arguments)
        assert said == 0, said

    return run
