"""What is refused before several processes start, and how they end."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from lightning_sae.training import launch
from lightning_sae.training.launch import Together, check_launch


def make_trainer(devices: int, **changes: Any) -> Trainer:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", devices=devices, logger=False, **quiet, **changes)


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_is_multirun", lambda: True)
    trainer = make_trainer(1)
    before = list(trainer.callbacks)
    check_launch(trainer, {"seed": 0})
    assert trainer.callbacks == before


def test_a_multirun_that_would_start_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_is_multirun", lambda: True)
    with pytest.raises(ValueError, match=r"cannot start 2 processes by itself.*submitit_slurm.*torchrun"):
        check_launch(make_trainer(2, strategy="ddp"), {})
    monkeypatch.setattr(launch, "_is_multirun", lambda: False)
    check_launch(make_trainer(2, strategy="ddp"), {})


@pytest.mark.parametrize(
    "variables",
    [
        {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
        | {"TORCHELASTIC_RUN_ID": "none"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "sweep", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0"}
        | {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2"},
    ],
    ids=["torchrun", "slurm"],
)
def test_a_multirun_whose_processes_are_there_is_not(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    monkeypatch.setattr(launch, "_is_multirun", lambda: True)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = make_trainer(2, strategy=DDPStrategy(process_group_backend="gloo"))
    check_launch(trainer, {})
    assert isinstance(trainer.callbacks[0], Together)  # type: ignore[attr-defined]


def test_ranks_with_different_configs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        {"run_dir": f"out/{time}", "trainer": {"default_root_dir": f"out/{time}"}, "sae": {"k": k}}
        for time, k in (("12-00", 4), ("12-01", 4), ("12-01", 8))
    ]
    callbacks = [Together(config) for config in configs]

    def agree(*ranks: int, images: tuple[str, ...] = ("a1",) * 3) -> None:
        def gather(found: list[Any], own: Any) -> None:
            known = [(callbacks[rank].config, callbacks[rank].refusal) for rank in range(3)]
            found[:] = [(known[rank][0], {"val.files": images[rank]}, known[rank][1]) for rank in ranks]

        monkeypatch.setattr(launch.dist, "get_world_size", lambda: len(ranks))
        monkeypatch.setattr(launch.dist, "all_gather_object", gather)
        callbacks[0].agree()

    agree(0, 1)  # only the time differs
    with pytest.raises(ValueError, match=r"configurations: sae\.k is 4 on rank 0, 8 on rank 2\. Start all"):
        agree(0, 1, 2)
    with pytest.raises(ValueError, match=r"different images: val\.files is a1 on rank 0, b2 on rank 1"):
        agree(0, 1, images=("a1", "b2"))
    callbacks[1].refusal = "RUN is in use"
    with pytest.raises(ValueError, match=r"^RUN is in use$"):
        agree(0, 1)


def test_no_process_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.1)
    trainer = make_trainer(2, strategy="ddp")
    trainer.strategy._configure_launcher()
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    trainer.strategy.launcher.procs = [started]
    error = RuntimeError("Connection closed by peer [127.0.0.1]:1234")
    Together({}).on_exception(trainer, None, error)  # type: ignore[arg-type]
    assert started.poll() is not None
    assert "Rank 0 has lost the other processes" in error.__notes__[0]
    assert not trainer.strategy.launcher.procs


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_in_16_bits_are_refused(precision: str) -> None:
    trainer: Any = SimpleNamespace(precision=precision)  # there is no fp16 on a CPU
    with pytest.raises(ValueError, match=f"trainer.precision={precision} .* take bf16-mixed"):
        check_launch(trainer, {})
