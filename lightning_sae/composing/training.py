"""Training from Python, without a command line."""

import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_sae.composing.given import giving, node, said_by
from lightning_sae.composing.settings import Settings, literal, read_settings
from lightning_sae.devices.device import find_device
from lightning_sae.files import user_path
from lightning_sae.home import home
from lightning_sae.runs.folder import RunFolder
from lightning_sae.trust.causes import cause_of


def train(
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    config_dir: str | Path | None = None,
    **more: Any,
) -> RunFolder:
    """Train as `python train.py` does, by the same defaults, and return the run.

    The same call continues a training that was stopped, and does nothing for one that is finished. The
    working directory, logging and Hydra's state are afterwards as they were before.

    Args:
        folder: folder of the run.
        settings: keys as on the command line: `{"sae.k": 8, "data.root": "DIR"}`. A group takes the name of
            one of its files: `{"sae": "batch_topk"}`; `{"~callbacks.NAME": None}` leaves a callback out. An
            object can take the place of `clip`, `data` (an `ActivationDataModule`), `data.judge`,
            `labels` (a `Vocabulary`), `sae` (a variant, or a partial of one, that lacks only `d_in`),
            `callbacks.NAME` and `logger.NAME`.
        config_dir: folder of YAML of your own, as `--config-dir`.
        more: settings whose keys have no dots, such as `sae="batch_topk"`, or mappings of such.

    Returns:
        The run, as far as its callbacks have written it.

    Raises:
        ValueError: a setting does not exist, or does not fit the others.
        FileNotFoundError: a file that the settings name is missing.
        KeyboardInterrupt: the training was stopped; the checkpoint stays.

    Example:
        >>> train("RUN", sae="batch_topk", settings={"sae.k": 8, "trainer.max_steps": 300})  # doctest: +SKIP
    """
    folder = user_path(folder).absolute()
    read = read_settings({**(settings or {}), **more})
    config, hydra = _compose(read, folder, config_dir)
    with giving(read.objects), _started_by(hydra), _quiet(hydra), _importable(home()):
        try:
            _program(home() / "train.py").run(config, lambda _: f"\nStopped. {_GOES_ON}")
        except InstantiationException as error:
            raise cause_of(error) from None
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt(_GOES_ON) from stop
            raise
    run = RunFolder(folder, trusted=None)
    if "data" in read.objects:
        run.data = read.objects["data"].to(find_device())
    return run


_GOES_ON = "The same call goes on from the last checkpoint."


def _compose(
    settings: Settings, folder: Path, config_dir: str | Path | None
) -> tuple[DictConfig, DictConfig]:
    """Return the configuration of the run, and the configuration of Hydra itself."""
    words = [*settings.words, f"run_dir={literal(folder)}"]
    if config_dir is not None:
        own = user_path(config_dir).absolute()
        if not own.is_dir():
            raise FileNotFoundError(f"config_dir must be a folder of YAML, got {own}")
        words.append(f"hydra.searchpath=[{literal(f'file://{own}')}]")
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
            config = compose("train", words, return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = before  # Hydra puts a copy in its place
    OmegaConf.set_readonly(config.hydra, False)
    with open_dict(config):
        hydra = OmegaConf.create({"hydra": config.pop("hydra")})
        _place(config, settings.objects)
    hydra.hydra.runtime.output_dir = hydra.hydra.run.dir = str(folder)
    return config, hydra


def _place(config: DictConfig, objects: Mapping[str, Any]) -> None:
    """Write an entry for each object into the configuration."""
    for key, value in objects.items():
        OmegaConf.update(config, key, node(key, value), merge=False, force_add=True)
    if "data" in objects:
        config.update(said_by(objects["data"]))


@contextmanager
def _started_by(hydra: DictConfig) -> Iterator[None]:
    """Make Hydra's settings known as those of the running job within the block, as under `train.py`."""
    job = HydraConfig.instance()
    before = job.cfg
    job.set_config(hydra)
    try:
        yield
    finally:
        job.cfg = before


@contextmanager
def _quiet(hydra: DictConfig) -> Iterator[None]:
    """Give loggers the levels that they have under `train.py`, within the block."""
    loggers = {logging.getLogger(name): said.level for name, said in hydra.hydra.job_logging.loggers.items()}
    before = {logger: logger.level for logger in loggers}
    try:
        for logger, level in loggers.items():
            logger.setLevel(level)
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let Python find `callbacks` where it came with the package."""
    before = [*sys.path]
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _program(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("lightning_sae_train", path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program
