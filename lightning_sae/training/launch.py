"""How a run starts: where it trains, and several processes with one configuration, which end together."""

import signal
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_sae.data import ActivationDataModule
from lightning_sae.devices.device import describe
from lightning_sae.devices.gpu_memory import check_room
from lightning_sae.mappings import flatten

GRACE = 10  # seconds that the other processes have to end by themselves
TOO_COARSE = ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
LOST = ("closed by peer", "Connection reset", "timed out", "Timed out", "Broken pipe", "NCCL")


def check_launch(
    trainer: Trainer, config: Mapping[str, Any], data: ActivationDataModule | None = None
) -> None:
    """Say, before the trainer starts, where it trains, and have it refuse what would go wrong.

    Args:
        trainer: of one run.
        config: all that the run was given, resolved.
        data: whose images all processes have to see alike; `None` compares the configurations alone.

    Raises:
        ValueError: the jobs of a multirun would each start processes, which would run the whole multirun; or
            weights in 16 bits.
    """
    _check_precision(str(trainer.precision))
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    if device.type == "cuda":
        callbacks.insert(0, Room())
    if trainer.world_size == 1:
        print(f"device: {describe(device)}", flush=True)
        return
    if _is_multirun() and _starts_processes(trainer):
        raise ValueError(
            f"a job of a multirun cannot start {trainer.world_size} processes by itself: each of them would "
            "run a multirun of its own. Let SLURM (hydra/launcher=submitit_slurm, one task per device) or "
            "torchrun start them, take trainer.devices=1, or start the jobs one by one without -m"
        )
    # what is logged at the end of a pass is made of all ranks already
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    callbacks.insert(0, Devices())
    together = Together(config)
    callbacks.insert(0, together)
    if data is not None:
        data.agree = partial(together.agree, data.data_identity)


def _check_precision(precision: str) -> None:
    """Refuse weights of 16 bits: usual Adam steps are lost in them, and metrics need float32 sums."""
    if precision in TOO_COARSE:
        raise ValueError(
            f"trainer.precision={precision} keeps the weights of the autoencoder in 16 bits, in which small "
            "steps and sums are lost; take bf16-mixed, which multiplies in 16 bits, or 32-true"
        )


class Room(Callback):
    """Refuses to train what a GPU has no room for."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the room once weights and activations are on the GPU, but not gradient and Adam's moments.

        Raises:
            ValueError: as `check_room`.
        """
        weights = sum(p.nbytes for p in pl_module.parameters() if p.requires_grad)
        check_room(weights, trainer.strategy.root_device)


class Devices(Callback):
    """Says where several processes train."""

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print a line; asked for earlier, a GPU's name would set up CUDA, which no fork survives."""
        first = describe(trainer.strategy.root_device)
        print(f"devices: {trainer.world_size} processes, the first on {first}", flush=True)


class Together(Callback):
    """Refuses ranks with different configurations, and leaves no process behind.

    Args:
        config: all that this rank was given, resolved; its `run_dir`, which may hold the time, may differ.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = comparable(config)
        self.refusal = ""

    def agree(self, images: Callable[[], Mapping[str, str]] = dict) -> None:
        """Compare the ranks, and refuse what one of them refuses; all call it, once they are connected.

        Args:
            images: gives what images this rank sees, by dotted keys.

        Raises:
            ValueError: on all ranks; names what differs, or is what a rank refuses.
        """
        known: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(known, (self.config, dict(images()), self.refusal))
        configs, seen, refusals = zip(*known, strict=True)
        if differing := rank_differences(configs):
            raise ValueError(
                f"the processes were given different configurations: {'; '.join(differing)}. Start all of "
                "them with the same command, code and environment"
            )
        if refused := list(filter(None, refusals)):
            raise ValueError(refused[0])
        if differing := rank_differences(seen):
            raise ValueError(
                f"the processes see different images: {'; '.join(differing)} (hashes of names, contents and "
                "classes). Give all machines the same files under data.root or data.path"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let SIGTERM end this process."""
        _end_on_sigterm(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let SIGTERM end this process also where there is no training."""
        _end_on_sigterm(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what a lost connection means, and end the processes that this one started."""
        if isinstance(exception, RuntimeError) and any(word in str(exception) for word in LOST):
            exception.add_note(
                f"Rank {trainer.global_rank} has lost the other processes: one of them has ended, and its "
                "own message says why, or hangs."
            )
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            started = list(launcher.procs)
            launcher.procs.clear()  # Lightning's observer would kill this process before it has finished
            for process in started:
                _end(process)


def refuse(trainer: Trainer, refusal: Exception) -> None:
    """Raise what this process refuses, or keep it for the moment in which all processes compare (`Together`).

    Processes that were started separately, as by torchrun, would wait long for one that has ended.

    Args:
        trainer: that `check_launch` has seen.
        refusal: the error.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    together = next((each for each in callbacks if isinstance(each, Together)), None)
    if together is None or _starts_processes(trainer):
        raise refusal
    together.refusal = str(refusal)


def comparable(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the dotted keys of a config with their values as texts, without the run folder.

    The run folder may differ between ranks.

    Example:
        >>> comparable({"run_dir": "out/12-00-01", "trainer": {"default_root_dir": "out/12-00-01"}})
        {'run_dir': 'RUN', 'trainer.default_root_dir': 'RUN'}
    """
    run_dir = str(config.get("run_dir"))
    return {key: str(value).replace(run_dir, "RUN") for key, value in flatten(config).items()}


def rank_differences(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the keys in which a rank differs from rank 0, a text for each.

    Example:
        >>> rank_differences([{"seed": "0"}, {"seed": "0"}, {"seed": "1"}])
        ['seed is 0 on rank 0, 1 on rank 2']
    """
    found = {}
    for rank, config in enumerate(configs):
        for key in [key for key in {**configs[0], **config} if configs[0].get(key) != config.get(key)]:
            found[key] = f"{key} is {configs[0].get(key)} on rank 0, {config.get(key)} on rank {rank}"
    return list(found.values())


def _is_multirun() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _starts_processes(trainer: Trainer) -> bool:
    """Return whether Lightning would start this command again for each further process."""
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return False
    return not launcher.cluster_environment.creates_processes_externally


def _end_on_sigterm(trainer: Trainer) -> None:
    """Replace Lightning's handler, which starts a broadcast while ranks may be at different places.

    SLURM's signals have a meaning of their own.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(environment, SLURMEnvironment):
        signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, frame: Any) -> NoReturn:
    raise SIGTERMException(128 + number)


def _end(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
