"""Runs of one recipe with several seeds, compared: which latents recur, and what they carry."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lightning_sae.compare.runs import Run, read_runs
from lightning_sae.concepts.naming import name_columns, names_of
from lightning_sae.stability.findings import Matches
from lightning_sae.stability.recurrence import LEVEL, Recurrence, find_recurring
from lightning_sae.stability.seeds import Seed, read_seeds
from lightning_sae.stability.shares import RecurringShare, recurring_share


class Stability(NamedTuple):
    """All that recurs in runs of one recipe.

    Attributes:
        runs: a run for each seed.
        found: which latents recur.
        latents: a row per compared latent: `run`, `latent`, `label`, `named`, `recurs` (probability),
            `similarity`, `cosine`, `correlation` (means over the other runs), `reconstruction` and
            `attribution` (its shares of the two).
        shares: what recurs of the `latents`, of the `reconstruction` and of the `attribution`.
        matches: places of two runs -> their latents that match.
        images: that activations are compared on.
    """

    runs: list[Run]
    found: Recurrence
    latents: pd.DataFrame
    shares: dict[str, RecurringShare]
    matches: Matches
    images: int


def compare_seed_folders(folders: Sequence[str | Path], level: float = LEVEL) -> Stability:
    """Compare runs of one recipe with several seeds, from their folders alone.

    Args:
        folders: run folders, or folders of them; what is not finished is left out.
        level: share of latents that have a match by chance, in (0, 1).

    Raises:
        ValueError: fewer than two finished runs, runs that differ in more than the seed, or in nothing;
            names what differs.
        FileNotFoundError: there is no run, or one lacks a file.
    """
    return compare_seeds([run for run in read_runs(folders) if run.finished], level)


def compare_seeds(runs: Sequence[Run], level: float = LEVEL) -> Stability:
    """Compare runs that are already read, as `compare_seed_folders` does."""
    seeds = read_seeds(runs)
    found = find_recurring([seed.dictionary for seed in seeds], level)
    tables = [_table(seed, found, place) for place, seed in enumerate(seeds)]
    weights = {
        "latents": [np.full(len(seed.latents), 1 / len(seed.latents)) for seed in seeds],
        "reconstruction": [seed.reconstruction for seed in seeds],
        "attribution": [seed.attribution for seed in seeds],
    }
    return Stability(
        list(runs),
        found,
        pd.concat(tables, ignore_index=True),
        {name: recurring_share(found, weight) for name, weight in weights.items()},
        {(i, j): _numbered(pairs, seeds[i], seeds[j]) for (i, j), pairs in found.pairs.items()},
        len(seeds[0].image_ids),
    )


def _numbered(pairs: NDArray[np.int64], one: Seed, other: Seed) -> set[tuple[int, int]]:
    numbers = zip(one.latents[pairs[:, 0]].tolist(), other.latents[pairs[:, 1]].tolist(), strict=True)
    return set(numbers)


def _table(seed: Seed, found: Recurrence, place: int) -> pd.DataFrame:
    listed = seed.run.table("latents").reindex(columns=["latent", "label", "named"])
    return pd.DataFrame(
        {
            "run": seed.run.name,
            "latent": seed.latents,
            **name_columns(names_of(listed.set_index("latent").reindex(seed.latents))),
            "recurs": found.probability(place),
            **found.means(place)._asdict(),
            "reconstruction": seed.reconstruction,
            "attribution": seed.attribution,
        }
    )
