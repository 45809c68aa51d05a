"""Runs of one recipe with dictionaries of several widths: which latents split into which."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pandas as pd
import torch

from lightning_sae.compare.differences import training_of, value
from lightning_sae.compare.runs import Run
from lightning_sae.concepts.hierarchy import Level, link, with_labels
from lightning_sae.concepts.naming import LatentName, names_of
from lightning_sae.runs.image_latents import FILE, ImageLatentsFile, load_image_latents
from lightning_sae.sae.saving.folder import load_decoder
from lightning_sae.trust.control_characters import visible

WIDTH = "sae.d_sae"
ACTIVATIONS = {"clip": "CLIP", "hook_point": "hook point", "tokens": "tokens"}
"""Key of an autoencoder's provenance -> what it is called."""


class LinkedRuns(NamedTuple):
    """Runs of several widths.

    Attributes:
        runs: from the narrowest dictionary to the widest.
        compared: latents of each that fire on enough images to have parents or children.
        table: a row per link: `run`, `latent`, `label`, `named`, `parent_run`, `parent`, `parent_label`,
            `parent_named`, and the columns of `concepts.hierarchy.link`.
    """

    runs: list[Run]
    compared: list[int]
    table: pd.DataFrame


class WidthComparison(NamedTuple):
    """Recipes of which there are several widths.

    Attributes:
        recipes: those whose latents could be linked.
        problems: why others could not.
    """

    recipes: list[LinkedRuns]
    problems: list[str]

    @property
    def table(self) -> pd.DataFrame:
        """A row per link of all recipes; without rows where there are no widths to compare."""
        return pd.concat([pd.DataFrame(), *(recipe.table for recipe in self.recipes)])


def compare_widths(runs: Sequence[Run]) -> WidthComparison:
    """Link the latents of every recipe that has several widths; of each width the first run counts.

    Args:
        runs: finished.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[str, Run]] = {}
    for run in runs:
        recipe = tuple((key, said) for key, said in training_of(run) if key != WIDTH)
        groups.setdefault(recipe, {}).setdefault(value(run.recipe, WIDTH), run)
    recipes, problems = [], []
    for group in groups.values():
        if len(group) < 2:
            continue
        try:
            recipes.append(link_runs([*group.values()]))
        except (FileNotFoundError, ValueError) as error:
            problems.append(visible(f"widths cannot be compared: {error}"))
    return WidthComparison(recipes, problems)


def link_runs(runs: Sequence[Run]) -> LinkedRuns:
    """Link the latents of runs with their parents in runs of narrower dictionaries.

    Args:
        runs: at least two, of different widths, on one CLIP, hook point and set of images.

    Raises:
        ValueError: they are not; says what differs. Or a file is damaged, or two files are not of one run.
        FileNotFoundError: a run has no autoencoder, or no `image_latents.safetensors`.
    """
    if len(runs) < 2:
        raise ValueError(f"parents are latents of a narrower run: name two runs at least, got {len(runs)}")
    runs = sorted(runs, key=lambda run: int(run.card.get("d_sae", 0)))
    for run in runs[1:]:
        _check_activations(runs[0], run)
    files = [load_image_latents(run.folder) for run in runs]
    for (run, file), (other, wider) in pairwise(zip(runs, files, strict=True)):
        both = f"{run.name} and {other.name}"
        if file.latents.d_sae == wider.latents.d_sae:
            raise ValueError(f"{both} both have {file.latents.d_sae} latents: of each width name one run")
        if file.images != wider.images or not torch.equal(file.image_ids, wider.image_ids):
            raise ValueError(
                f"{both} were validated on different images: parents are told by the images on which both "
                "fire"
            )
    levels = [_level(run, file) for run, file in zip(runs, files, strict=True)]
    table = with_labels(link(levels), [_names(run, f) for run, f in zip(runs, files, strict=True)])
    for column, level in (("parent_run", "parent_level"), ("run", "level")):
        table.insert(0, column, [runs[place].name for place in table[level]])
    return LinkedRuns(list(runs), [len(level.latents) for level in levels], table)


def _check_activations(one: Run, other: Run) -> None:
    of_one, of_other = (run.card.get("provenance", {}) for run in (one, other))
    for key, word in ACTIVATIONS.items():
        if of_one.get(key) != of_other.get(key):
            raise ValueError(
                f"{one.name} and {other.name} are not of the same {word}: latents are parents and children "
                "of latents on the same activations alone"
            )


def _level(run: Run, file: ImageLatentsFile) -> Level:
    decoder = load_decoder(run.folder / "sae").double().numpy()
    if len(decoder) != file.latents.d_sae:
        raise ValueError(
            f"{run.folder}: the autoencoder has {len(decoder)} latents, {FILE} {file.latents.d_sae}"
        )
    return Level.of(file.latents, decoder)


def _names(run: Run, file: ImageLatentsFile) -> list[LatentName]:
    listed = run.table("latents").reindex(columns=["latent", "label", "named"]).set_index("latent")
    return names_of(listed.reindex(range(file.latents.d_sae)))
