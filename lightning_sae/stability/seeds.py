"""Runs that differ in nothing but the seed, and what is compared of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_sae.compare.differences import SEEDS, differing, training_of, value
from lightning_sae.compare.matching import MIN_IMAGES, Array, sparse_columns
from lightning_sae.compare.runs import Run
from lightning_sae.runs.image_latents import FILE, load_image_latents
from lightning_sae.sae.saving.folder import load_decoder
from lightning_sae.stability.recurrence import Dictionary
from lightning_sae.stability.shares import reconstruction_shares


class Seed(NamedTuple):
    """A run among others of its recipe.

    Attributes:
        run: its folder.
        latents: `[m]` int64, those that fire on enough images to be compared.
        dictionary: of them.
        reconstruction: `[m]`, share of the variance of the reconstructions that each carries.
        attribution: `[m]`, share of all absolute attribution to the classes; NaN where the run has none.
        images: digest of the images' identity.
        image_ids: `[n]` int64.
    """

    run: Run
    latents: NDArray[np.int64]
    dictionary: Dictionary
    reconstruction: Array
    attribution: Array
    images: str
    image_ids: torch.Tensor


def by_recipe(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs of each recipe, whatever their seeds, in the order in which they come."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(training_of(run), []).append(run)
    return list(groups.values())


def read_seeds(runs: Sequence[Run]) -> list[Seed]:
    """Read what is compared of runs of one recipe.

    Args:
        runs: finished.

    Raises:
        ValueError: fewer than two runs, runs of several recipes, two of the same seed, or runs that were
            trained on other activations or validated on other images; names what differs.
        FileNotFoundError: a run lacks a file.
    """
    check_recipe(runs)
    seeds = [read_seed(run) for run in runs]
    for seed in seeds[1:]:
        if (seed.images, *seed.image_ids) != (seeds[0].images, *seeds[0].image_ids):
            raise ValueError(
                f"{seeds[0].run.name} and {seed.run.name} were validated on different images: what recurs "
                "can be told on the same ones alone"
            )
    return seeds


def check_recipe(runs: Sequence[Run]) -> None:
    """Refuse runs that differ in more than the seed, or in nothing.

    Raises:
        ValueError: they do; names the keys.
    """
    if len(runs) < 2:
        raise ValueError(
            f"whether latents recur takes two finished runs at least, got {len(runs)}: "
            "python train.py -m experiment=stability trains five"
        )
    for run in runs[1:]:
        both = (runs[0], run)
        if keys := [key for key in differing(both) if key not in SEEDS]:
            values = "; ".join(
                f"{key}: {' and '.join(value(one.recipe, key) for one in both)}" for key in keys
            )
            raise ValueError(
                f"{runs[0].name} and {run.name} are of different recipes ({values}): what recurs is told of "
                "runs that differ in the seed alone"
            )
        if runs[0].card.get("provenance") != run.card.get("provenance"):
            raise ValueError(f"{runs[0].name} and {run.name} were trained on activations of different CLIPs")
    seen: dict[str, Run] = {}
    for run in runs:
        seed = " ".join(value(run.recipe, key) for key in SEEDS)
        if seed in seen:
            raise ValueError(
                f"{seen[seed].name} and {run.name} are the same training, seed={run.recipe.get('seed')}: of "
                "each seed name one run"
            )
        seen[seed] = run


def read_seed(run: Run) -> Seed:
    """Read what is compared of a run.

    Raises:
        ValueError: a file is damaged, or two files are not of one run.
        FileNotFoundError: there is no autoencoder, or no `image_latents.safetensors`.
    """
    file, decoder = load_image_latents(run.folder), load_decoder(run.folder / "sae").double().numpy()
    if len(decoder) != file.latents.d_sae:
        raise ValueError(
            f"{run.folder}: the autoencoder has {len(decoder)} latents, {FILE} {file.latents.d_sae}"
        )
    activations = sparse_columns(file.latents, np.arange(len(decoder)))
    latents = np.flatnonzero(np.diff((activations > 0).tocsc().indptr) >= MIN_IMAGES)
    return Seed(
        run,
        latents,
        Dictionary(decoder[latents], activations[:, latents]),
        reconstruction_shares(decoder, activations)[latents],
        _attribution_shares(run, len(decoder))[latents],
        file.images,
        file.image_ids,
    )


def _attribution_shares(run: Run, d_sae: int) -> Array:
    table, shares = run.table("latents"), np.zeros(d_sae)
    if "attribution_mass" not in table or not table["attribution_mass"].sum() > 0:
        return np.full(d_sae, np.nan)
    known = table[table["latent"] < d_sae]
    shares[known["latent"]] = known["attribution_mass"].fillna(0) / known["attribution_mass"].sum()
    return shares
