"""The settings of a run in its folder, as Hydra writes them: `.hydra/config.yaml` and its neighbours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lightning_sae.files import write_atomic

CONFIG = Path(".hydra") / "config.yaml"
ERROR = "error.txt"
"""The traceback of a failed job of a multirun."""


def save_settings(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml`, `hydra.yaml` and `overrides.yaml`; nothing where Hydra did not start the program.

    Hydra itself would write them before the program has looked at the folder, and so over those of a run that
    the program then refuses to touch (`hydra.output_subdir: null` in `conf/train.yaml`).

    Args:
        folder: of the run.
        config: as composed, interpolations not resolved.
    """
    hydra: Any = HydraConfig.instance().cfg
    if hydra is None:
        return
    contents = {
        "config": OmegaConf.create(dict(config)),
        "hydra": hydra,
        "overrides": hydra.hydra.overrides.task,
    }
    (folder / CONFIG.parent).mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomic(folder / CONFIG.parent / f"{name}.yaml", OmegaConf.to_yaml(content).encode())
