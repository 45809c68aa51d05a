"""What a tracker is told about a run beside its values: group, name, tags, config."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from lightning_sae.mappings import flatten

_CLUTTER = ("_target_", "_partial_", "_convert_", "_recursive_")
_TELLING = ("experiment", "clip", "data", "sae")
"""Groups of the config whose choices become tags."""

_PLUMBING = ("logger", "record", "errors", "listed")
_WATCHING = ("callbacks", "labels", "task", "resume", "ckpt_path", "optimized_metric", "run_dir")
"""Settings on which no weight depends."""


class Job(NamedTuple):
    """The running job as Hydra knows it; all empty outside of Hydra.

    Attributes:
        group: the end of the path of a multirun's folder; `None` for a single run.
        name: the number of a job in a multirun and what only this job overrides, fit to name a file; `None`
            for a single run.
        choices: group of the config -> chosen file.
    """

    group: str | None
    name: str | None
    choices: dict[str, str]

    @property
    def tags(self) -> list[str]:
        """The choices that tell runs apart, such as `clip:world_biased`."""
        return [f"{group}:{self.choices[group]}"[:64] for group in _TELLING if group in self.choices]


def this_job() -> Job:
    """Return the job that Hydra is running."""
    if not HydraConfig.initialized():
        return Job(None, None, {})
    hydra = HydraConfig.get()
    choices = {
        str(k): str(v) for k, v in hydra.runtime.choices.items() if v and not str(k).startswith("hydra/")
    }
    if hydra.mode != RunMode.MULTIRUN:
        return Job(None, None, choices)
    group = "/".join(Path(hydra.sweep.dir).parts[-2:])
    return Job(group, _file_name(f"{hydra.job.num} {hydra.job.override_dirname}"), choices)


def _file_name(text: str, most: int = 80) -> str:
    """Return a text as the name of a file on any system: no slashes, quotes or brackets, and not too long.

    Example:
        >>> _file_name("3 hook_point=visual.ln_post,data.classes=[a,'b/c']")
        '3 hook_point=visual.ln_post,data.classes=_a,_b_c_'
    """
    name = re.sub(r"[^\w.=,+@ -]+", "_", text).strip()
    return name if len(name) <= most else f"{name[: most - 3]}..."


def tracker_config(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """Return a resolved config for a tracker: values and choices, no class names, nothing twice.

    Values that `${clip}` or `${seed}` has copied to another place are left out there, and so are loggers and
    empty groups.

    Args:
        config: as `train.py` resolves it.
        choices: of the job, shown as `choices`.

    Example:
        >>> clip = {"_target_": "f", "k": 1}
        >>> config = {"clip": clip, "seed": 0, "data": {"clip": clip, "seed": 0, "n": 2}}
        >>> tracker_config(config, {"clip": "open_clip"})
        {'clip': {'k': 1}, 'seed': 0, 'data': {'n': 2}, 'choices': {'clip': 'open_clip'}}
    """
    groups = [group for group in config.values() if isinstance(group, Mapping)]
    parts = {
        key: _plain(_own(value, config), groups) for key, value in config.items() if key not in _PLUMBING
    }
    return {key: part for key, part in parts.items() if part != {}} | {"choices": dict(choices)}


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the weights depend on, flat, of what `tracker_config` returns.

    Example:
        >>> hyper_parameters({"sae": {"k": 16}, "callbacks": {"gallery": {"rows": 12}}, "run_dir": "outputs"})
        {'sae.k': 16}
    """
    flat = flatten({key: value for key, value in config.items() if key not in _WATCHING})
    folder = config.get("run_dir")
    return {key: value for key, value in flat.items() if value != folder or folder is None}


def _own(value: Any, config: Mapping[str, Any]) -> Any:
    """Return a group without the keys that the top of the config has with the same value."""
    if not isinstance(value, Mapping):
        return value
    return {key: child for key, child in value.items() if key not in config or config[key] != child}


def _plain(value: Any, groups: list[Mapping[str, Any]]) -> Any:
    if not isinstance(value, Mapping):
        return value
    parts = {
        str(key): _plain(child, groups)
        for key, child in value.items()
        if key not in _CLUTTER and child not in groups
    }
    return {key: part for key, part in parts.items() if part != {}}
