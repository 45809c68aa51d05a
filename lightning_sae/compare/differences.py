"""What differs between the configs of runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_sae.compare.runs import Run

_NO_RECIPE = ("run_dir", "ckpt_path", "data.store_dir", "experiment")
"""Where a run lies, and what it was called: no part of how it was made."""
SEEDS = ("seed", "data.seed")
"""Of a training: where it starts, and the order of its batches. The data have seeds of their own."""


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the keys of the configs whose values are not the same in all runs, in the order of the config.

    Where a whole group was exchanged (`clip=world_balanced`), the keys that come with the choice are left
    out, as its name stands for them. Keys that a command line set stay.
    """
    keys = dict.fromkeys(key for run in runs for key in run.recipe if not _is_clutter(key))
    every = {key: [value(run.recipe, key) for run in runs] for key in keys}
    vary = {key: values for key, values in every.items() if len(set(values)) > 1}
    groups = {key: _package(key) for key in vary if any(other.startswith(_package(key)) for other in keys)}
    said = {word.lstrip("+~").partition("=")[0] for run in runs for word in run.overrides}
    return sorted(
        (
            key
            for key, values in vary.items()
            if key in said
            or not any(
                key.startswith(package) and _follows(values, vary[group]) for group, package in groups.items()
            )
        ),
        key=list(keys).index,
    )


def training_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the settings of a run without its seeds: equal for runs that differ in nothing else."""
    keys = (key for key in run.recipe if not _is_clutter(key) and key not in SEEDS)
    return tuple(sorted((key, value(run.recipe, key)) for key in keys))


def is_part(key: str, part: str) -> bool:
    """Return whether a key is a part of the config, or lies in it.

    Example:
        >>> is_part("clip", "clip"), is_part("clip.model", "clip"), is_part("clipping", "clip")
        (True, True, False)
    """
    return key == part or key.startswith(f"{part}.")


def value(recipe: Mapping[str, Any], key: str) -> str:
    """Return a value of a recipe as text; "" where the key is not there.

    Example:
        >>> recipe = {"sae.k": 16, "data.templates": ["a {}"]}
        >>> value(recipe, "sae.k"), value(recipe, "data.templates"), value(recipe, "sae.l1_weight")
        ('16', '["a {}"]', '')
    """
    found: Any = recipe.get(key, "")
    return found if isinstance(found, str) else json.dumps(found, default=str)


def _is_clutter(key: str) -> bool:
    return (
        key in _NO_RECIPE or key.startswith("logger") or key.rsplit(".", 1)[-1] in ("_target_", "_partial_")
    )


def _package(group: str) -> str:
    """Return the prefix of the keys of a group: of `clip@data.judge` it is `data.judge.`."""
    return group.rsplit("@", 1)[-1].replace("/", ".") + "."


def _follows(values: Sequence[str], choices: Sequence[str]) -> bool:
    """Return whether runs with the same choice have the same value."""
    return len(set(zip(choices, values, strict=True))) == len(set(choices))
