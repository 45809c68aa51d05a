"""The numbers of another run as a baseline, such as the same recipe on a CLIP with random weights."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_sae.baselines.comparison import DictionaryNumbers, is_compared
from lightning_sae.mappings import differences, flatten
from lightning_sae.runs.folder import RunFolder
from lightning_sae.training.module import FIXED

SAME = [name for name in FIXED if name != "frozen_decoder"]
"""Settings of `module` that a baseline has to share; a frozen decoder may be what makes a run a baseline."""
OF_THE_MACHINE = ("store_dir", "num_workers", "capture_batch_size", "memory_limit_gb", "shard_images")
OF_THE_CLIP = ("clip", "judge", "also_capture", "seed")
"""Settings of `data` that may differ in a baseline."""


def other_run(name: str, folder: str, recipe: Mapping[str, Any], config: DictConfig) -> DictionaryNumbers:
    """Return the last values of another run of the same recipe.

    Args:
        name: name of the baseline.
        folder: folder of the other run.
        recipe: hyper-parameters of the module in training, with its `sae`.
        config: configuration of the run in training; if it has no `data`, only the recipe is compared.

    Raises:
        ValueError: the folder has no values, or the run had other settings of `sae` or `module`, another hook
            point, other data, or another number of steps; the message says which.
    """
    run = RunFolder(folder)
    numbers = {key: value for key, value in run.metrics.items() if is_compared(key)}
    if not numbers or "sae" not in run.config:
        raise ValueError(
            f"callbacks.baselines.runs.{name}: {folder} has no values of a validation pass; name the folder "
            "of a run that came to its end"
        )
    changed = differences(_recipe_of(run), flatten(_chosen(recipe)))
    if "data" in config:
        changed += differences(_measured_on(run.config), _measured_on(config))
    if changed:
        raise ValueError(
            f"callbacks.baselines.runs.{name}: {folder} was trained by another recipe: {', '.join(changed)}. "
            "Train it again with the settings of this run, or leave it out"
        )
    return DictionaryNumbers(numbers, {})


def _measured_on(config: DictConfig) -> dict[str, Any]:
    """Return the settings of the hook point, the data and the length of the training."""
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    kept = {key: value for key, value in data.items() if key not in (*OF_THE_MACHINE, *OF_THE_CLIP)}
    steps = {key: config.trainer.get(key) for key in ("max_steps", "max_epochs")}
    return flatten({"data": kept, "trainer": steps})


def _chosen(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {"sae": dict(recipe["sae"]), "module": {key: recipe.get(key) for key in SAME}}


def _recipe_of(run: RunFolder) -> dict[str, Any]:
    """Return the settings of a run as its module keeps them: the variant by the name of its class."""
    made: Any = OmegaConf.to_container(run.config.sae, resolve=True)
    module: Any = OmegaConf.to_container(run.config.module, resolve=True)
    variant = str(made["_target_"]).rpartition(".")[2]
    options = {key: value for key, value in made.items() if not key.startswith("_")}
    return flatten(_chosen({**module, "sae": {"variant": variant, **options}}))
