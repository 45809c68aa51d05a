"""Trains a sparse autoencoder on a CLIP layer. `python train.py --help` tells what can be set."""

import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING or not {"--help", "-h"} & {*sys.argv}:  # the help needs no torch
    from lightning.pytorch import LightningModule, Trainer, seed_everything
    from lightning.pytorch.loggers import Logger


def _how_to_resume(folder: Path) -> str:
    """Return the command that goes on after an interrupt."""
    if not (folder / "checkpoints" / "last.ckpt").exists():
        return "\nStopped before the first checkpoint: run the same command again; what is captured stays."
    given = HydraConfig.get().overrides.task
    kept = [word for word in given if not word.startswith(("ckpt_path=", "resume="))]
    started_by = os.environ.get("LIGHTNING_SAE_STARTED_BY", f"python {shlex.quote(sys.argv[0])}")
    words = shlex.join([*kept, f"hydra.run.dir={folder}"])
    return f"\nStopped. To go on from the last checkpoint:\n  {started_by} {words}"


def run(cfg: DictConfig, how_to_resume: Callable[[Path], str] = _how_to_resume) -> Any:
    """Build what the config names, and fits or validates; returns what `optimized_metric` names."""
    seed_everything(cfg.seed, workers=True, verbose=False)
    record = instantiate(cfg.record)
    cfg.ckpt_path = record.begin(OmegaConf.to_container(cfg))
    datamodule: Any = instantiate(cfg.data)
    if record.finished:
        record.check_data(datamodule.data_identity())
        print(f"{cfg.run_dir} holds this run, and it is finished; resume=false starts it anew")
        return record.objective
    module: LightningModule = instantiate(cfg.module)
    callbacks = _built(cfg, "callbacks")
    loggers: list[Logger] = _built(cfg, "logger")
    trainer: Trainer = instantiate(cfg.trainer, callbacks=[*callbacks, record], logger=loggers or False)
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    instantiate(cfg.check_launch)(trainer, config, datamodule)
    try:
        with record.held(trainer, module, datamodule):
            for logger in loggers:
                logger.log_hyperparams(config)
            task = getattr(trainer, cfg.task)
            task(module, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C and SIGTERM
        if trainer.is_global_zero:
            print(how_to_resume(Path(cfg.run_dir)), file=sys.stderr)
        raise
    finally:
        _finish(loggers)
    return record.objective


def _built(cfg: DictConfig, group: str) -> list[Any]:
    """Return what a group lists, of plain dictionaries: in its own OmegaConf makes configs of dataclasses."""
    nodes = instantiate(cfg.listed)(cfg[group], group)
    return [instantiate(node, _convert_="all") for node in nodes]


def _finish(loggers: "Iterable[Logger]") -> None:
    """Close the runs that stay open in a tracker, so that the jobs of a multirun do not merge."""
    for logger in loggers:
        if finish := getattr(logger, "finish", None):
            finish()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> Any:
    """Run one job; what the user can mend ends in one message instead of a traceback."""
    with instantiate(cfg.errors):
        return run(cfg)


warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # of torch about Lightning, once per process

if __name__ == "__main__":
    main()
