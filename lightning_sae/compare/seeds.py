"""Recipes that were trained with several seeds: what recurs of each."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lightning_sae.compare.differences import SEEDS, differing, value
from lightning_sae.compare.runs import Run
from lightning_sae.stability.findings import RecurringFinding, read_seed_audit, recurring_findings
from lightning_sae.stability.seeds import by_recipe
from lightning_sae.stability.stability import Stability, compare_seeds
from lightning_sae.trust.control_characters import visible


class SeededRecipe(NamedTuple):
    """A recipe and its seeds.

    Attributes:
        name: what tells it from the other recipes; "" where it is the only one.
        stability: what recurs of its latents.
        findings: of its audits, those of most seeds first.
        problem: why there are no findings to compare; "" where there are.
    """

    name: str
    stability: Stability
    findings: list[RecurringFinding]
    problem: str


class SeedComparison(NamedTuple):
    """Recipes of which there are several seeds.

    Attributes:
        recipes: those that could be compared.
        problems: why others could not.
    """

    recipes: list[SeededRecipe]
    problems: list[str]

    @property
    def table(self) -> pd.DataFrame:
        """A row per compared latent of every run; without rows where there are no seeds to compare."""
        return pd.concat([pd.DataFrame(), *(recipe.stability.latents for recipe in self.recipes)])


def compare_recipes(runs: Sequence[Run]) -> SeedComparison:
    """Compare the seeds of every recipe that has several.

    Args:
        runs: finished.
    """
    groups = by_recipe(runs)
    recipes, problems = [], []
    for group, name in zip(groups, _names(groups), strict=True):
        if len({tuple(value(run.recipe, key) for key in SEEDS) for run in group}) < 2:
            continue
        try:
            found = compare_seeds(group)
        except (FileNotFoundError, ValueError) as error:
            problems.append(visible(f"seeds cannot be compared: {error}"))
        else:
            recipes.append(SeededRecipe(name, found, *_findings(found)))
    return SeedComparison(recipes, problems)


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    firsts = [group[0] for group in groups]
    keys = [key for key in differing(firsts) if key not in SEEDS]
    return [" ".join(f"{key}={value(run.recipe, key)}" for key in keys) for run in firsts]


def _findings(found: Stability) -> tuple[list[RecurringFinding], str]:
    try:
        audits = [read_seed_audit(run) for run in found.runs]
        return recurring_findings(audits, found.matches), ""
    except (FileNotFoundError, ValueError) as error:
        return [], visible(f"findings cannot be compared: {error}")
