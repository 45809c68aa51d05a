"""Matched latents on pairs that differ in one thing: `python benchmarks/pairs.py --seeds 0 1 --runs DIR`.

A value of the world's factors is matched with the latent that detects it best on val (AUROC). On pairs of
test pictures, each beside itself with one factor changed, its response should go the right way in at least
90 % of the pairs, and it should move less than a quarter as much with any other factor. Beside it stand the
same of an autoencoder as it is before its first step, and latents taken at random among those that ever fire.
DIR holds world_biased-seedN, as benchmarks/first_light.py makes them; what is missing is trained, with the
callbacks that reading it takes and no others.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from first_light import FACTORS, ROOT, latents_of, train
from rich.console import Console

from lightning_sae.concepts.detectors import best_detectors
from lightning_sae.metrics import ActiveRanks
from lightning_sae.pairs.counterfactuals import Counterfactuals
from lightning_sae.pairs.responses import (
    FactorValue,
    Floats,
    Moved,
    activation_scale,
    respond,
    values_of,
)
from lightning_sae.pairs.seen_pairs import SeenPairs
from lightning_sae.runs.folder import RunFolder, open_run
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.sae.initialisation import initialise, start_bias

RIGHT, SIDE = 0.9, 0.25  # the goals
NEEDED = ["callbacks=[latent_table,save_sae]", "logger=csv"]


def fresh(run: RunFolder, seed: int) -> SparseAutoencoder:
    """Return the autoencoder of a run as it may be before its first step."""
    torch.manual_seed(seed)
    data, start = run.data, run.config.module
    sae = type(run.sae)(**run.sae.config())
    mean = data.store.statistics.mean.cpu()
    sae.set_normalisation(mean, data.store.statistics.scale)
    sample = data.sample(sae.d_sae).cpu()
    bias = start_bias(sae, start.bias, mean, sample)
    initialise(sae, bias, sample if start["rows"] == "data" else None, start.tied)
    return sae.eval().to(data.clip.device)


def pairs_of(run: RunFolder, per_value: int) -> SeenPairs:
    """Return pairs of test pictures."""
    found = Counterfactuals(per_value).pairs(run.data.images("test"))
    assert found is not None
    return SeenPairs(run.data.look_at(found.images), found.before, found.after, found.contrasts)


@torch.no_grad()
def judge(run: RunFolder, sae: SparseAutoencoder, pairs: SeenPairs, seed: int) -> pd.DataFrame:
    """Return a row per value: what its best detector on val does on the pairs, and what a random latent."""
    latents = latents_of(run.data, sae, "val")
    ranks, factors = ActiveRanks.of(latents), dict(run.data.images("val").factors)
    values, scale = values_of(pairs.contrasts), activation_scale(latents)
    found = respond(Moved(pairs.changes(sae), pairs.contrasts), values, scale)
    matched, auroc = _matched(values, ranks, factors)
    draws = np.random.default_rng(seed)
    chance = draws.choice(np.flatnonzero(np.isfinite(scale)), len(values))
    places, side = np.arange(len(values)), found.side_effect
    response = found.response[places, matched]
    return pd.DataFrame(
        {
            "factor": [value.factor for value in values],
            "value": [value.value for value in values],
            "auroc": auroc,
            "pairs": found.counts,
            "right_way": found.right_way[places, matched],
            "response": response,
            "side": side[places, matched] / np.where(response > 0, response, np.nan),
            "random right_way": found.right_way[places, chance],
        }
    )


def _matched(
    values: list[FactorValue], ranks: ActiveRanks, factors: Mapping[str, tuple[list[str], torch.Tensor]]
) -> tuple[np.ndarray, Floats]:
    best = {name: best_detectors(ranks, truth, len(known)) for name, (known, truth) in factors.items()}
    places = [(best[value.factor], factors[value.factor][0].index(value.value)) for value in values]
    latents = [int(detectors.latent[place]) for detectors, place in places]
    return np.array(latents), np.array([float(detectors.auroc[place]) for detectors, place in places])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means by factor, and the shares of the values that reach the goals."""
    rows = rows.assign(
        right=rows["right_way"] >= RIGHT,
        quarter=rows["side"].fillna(np.inf) < SIDE,
    )
    named = {"right": f"right way >= {RIGHT:.0%}", "quarter": f"side < {SIDE:g} of response"}
    keys = ["auroc", "pairs", "right_way", "right", "response", "quarter", "random right_way"]
    by_factor = rows.groupby("factor", sort=False)[keys].mean()
    medians = rows.groupby("factor", sort=False)["side"].median()
    whole = rows[keys].mean().to_frame("all").T.assign(side=rows["side"].median())
    return pd.concat([by_factor.assign(side=medians), whole]).rename(columns=named)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument("--per-value", type=int, default=25, help="pairs in which each value comes")
    options = parser.parse_args()
    console = Console(width=160)
    for seed in options.seeds:
        folder = options.runs.resolve() / f"world_biased-seed{seed}"
        if not (folder / "sae").exists():
            train(folder, seed, "world_biased", NEEDED)
        run = open_run(folder)
        run.data.prepare_data()
        run.data.setup("test")
        pairs = pairs_of(run, options.per_value)
        for name, sae in {"trained": run.sae, "untrained": fresh(run, seed)}.items():
            rows = judge(run, sae, pairs, seed)
            assert set(rows["factor"]) == set(FACTORS)
            console.print(f"\nseed {seed}, {name}")
            console.print(summary(rows).round(3).to_string())
            worst = rows.nsmallest(3, "right_way")[["factor", "value", "auroc", "right_way", "side"]]
            console.print(worst.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
