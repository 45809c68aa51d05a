"""What recurs in other seeds, against the world's truth: `python benchmarks/stability.py --runs DIR`.

DIR is a finished `python train.py -m experiment=stability hydra.sweep.dir=DIR`. A finding is planted if the
table of plants has its class and kind; planted ones have to be in four of five seeds, others in one at most.
A latent's detection is its largest AUROC for any value of a known factor, over the images that its
activations are kept of; its rank correlation with the latent's recurrence has a bootstrap interval over
latents (95 %).
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap, spearmanr

from lightning_sae.compare.runs import Run
from lightning_sae.metrics import ActiveRanks
from lightning_sae.runs.image_latents import load_image_latents
from lightning_sae.stability import Stability, compare_seed_folders
from lightning_sae.stability.findings import RecurringFinding, read_seed_audit, recurring_findings
from lightning_sae.world import PLANTS

GOAL_PLANTED, GOAL_OTHER = 4, 1  # of five seeds


def best_aurocs(run: Run) -> NDArray[np.float64]:
    """Return `[d_sae]`, the largest AUROC of each latent for any value of any known factor."""
    images, file = run.data.images("val"), load_image_latents(run.folder)
    ranks = ActiveRanks.of(file.latents)
    factors = {"class": (images.class_names, images.targets), **images.factors}
    found = [ranks.aurocs(truth[file.image_ids], len(values)).numpy() for values, truth in factors.values()]
    best: NDArray[np.float64] = np.nanmax(np.concatenate(found), axis=0)
    return best


def with_detection(found: Stability) -> pd.DataFrame:
    """Return the table of latents with the AUROC of each, and how often it fires."""
    parts = []
    for run in found.runs:
        rows = found.latents[found.latents["run"] == run.name]
        density = run.table("latents").set_index("latent")["density"]
        parts.append(
            rows.assign(auroc=best_aurocs(run)[rows["latent"]], density=density[rows["latent"]].to_numpy())
        )
    return pd.concat(parts)


def correlation(latents: pd.DataFrame, first: str, second: str) -> tuple[float, float, float]:
    """Return the rank correlation of two columns with its interval."""
    pair = latents[first].to_numpy(), latents[second].to_numpy()

    def statistic(*some: NDArray[np.float64]) -> float:
        return float(spearmanr(*some).statistic)

    ends = bootstrap(
        pair, statistic, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=0
    ).confidence_interval
    return statistic(*pair), float(ends.low), float(ends.high)


def is_planted(finding: RecurringFinding) -> bool:
    """Return whether the table of plants has its class and kind."""
    one = finding.members[0].finding
    return any((plant.thing, plant.kind) == (one.class_name, one.kind) for plant in PLANTS)


def report(console: Console, found: Stability) -> None:
    """Print shares, findings and correlations, and the goals."""
    n, latents = len(found.runs), with_detection(found)
    cosine, r = found.found.limits
    console.print(
        f"{n} seeds; cosine above {cosine:.3f}, correlation above {r:.3f}, over {found.images} images"
    )
    for what, share in found.shares.items():
        console.print(f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}) of the {what} recur")
    table = Table("finding", "planted", "seeds")
    findings = recurring_findings([read_seed_audit(run) for run in found.runs], found.matches)
    for finding in findings:
        one = finding.members[0].finding
        table.add_row(f"{one.kind}: {one.class_name}", str(is_planted(finding)), f"{finding.seeds} of {n}")
    console.print(table)
    planted = [finding.seeds for finding in findings if is_planted(finding)]
    others = [finding.seeds for finding in findings if not is_planted(finding)]
    console.print(f"planted findings are in {planted} of {n} seeds (goal: each in {GOAL_PLANTED} of 5)")
    console.print(f"other findings are in {others} of {n} seeds (goal: each in {GOAL_OTHER} at most)")
    for first in ("recurs", "similarity"):
        for second in ("auroc", "density"):
            value, low, high = correlation(latents, first, second)
            console.print(f"rank correlation of {first} with {second}: {value:.2f} ({low:.2f} to {high:.2f})")
    for recurs, rows in latents.groupby("recurs"):
        console.print(f"recurs {recurs:.2f}: {len(rows)} latents, median AUROC {rows['auroc'].median():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR")
    report(Console(soft_wrap=True), compare_seed_folders([parser.parse_args().runs]))


if __name__ == "__main__":
    main()
