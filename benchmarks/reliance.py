"""Unexpected reliance against the world's truth: `python benchmarks/reliance.py --runs DIR`.

For each planted case, the culprits among the latents are those whose activation predicts the planted factor
(the background, the printed word, the other thing) on held-out test images, and whose ablation lowers the
class's score on test images that have the factor and are not of the class. The latents are ranked by u_j, as
the run's own callbacks give it for its last checkpoint on val; average precision says how well that finds
the culprits, and a case without any culprit counts as zero. The unexpected share of the planted classes is
compared with that of the same classes in the balanced edition. DIR holds world_biased-seedN and
world_balanced-seedN, as benchmarks/first_light.py makes them, at the class token of the last block; what is
missing is trained.
"""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from first_light import latents_of, train
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score
from torch import Tensor

from callbacks.reliance import UnexpectedReliance
from lightning_sae.attribution.ablation import AblationEffects, Removal
from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.reliance import Reliance
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics import sparse_auroc
from lightning_sae.training.module import SAEModule
from lightning_sae.types import SparseLatents
from lightning_sae.world import PLANTS, Plant

ROOT = Path(__file__).resolve().parents[1]
CALLBACKS = ("alignment", "attribution", "reliance")
PREDICTS = 0.9  # AUROC on test from which a latent predicts the planted factor
GOAL_PRECISION, GOAL_RATIO = 0.8, 3.0
JUDGED = ("spurious", "typographic")  # the kinds that the goals are about


class Run(NamedTuple):
    """A finished run, validated once more, with its latents on the test images."""

    data: ActivationDataModule
    module: SAEModule
    reliance: Reliance
    scores: ClassScores
    x: Tensor
    latents: SparseLatents

    @property
    def alive(self) -> Tensor:
        """`[d_sae]` bool, fired on val."""
        return self.module.density.cpu() > 0


def open_run(folder: Path) -> Run:
    """Validate the last checkpoint with the run's own settings of the callbacks that matter."""
    config = OmegaConf.load(folder / ".hydra" / "config.yaml")
    config.callbacks.reliance.classes = 0  # effects are measured here, on test images
    data, module = instantiate(config.data), instantiate(config.module)
    callbacks = [instantiate(config.callbacks[name]) for name in CALLBACKS]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            callbacks=callbacks, default_root_dir=scratch, logger=False, enable_progress_bar=False
        )
        checkpoint = str(folder / "checkpoints" / "last.ckpt")
        trainer.validate(module, data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    (reliance,) = (callback for callback in callbacks if isinstance(callback, UnexpectedReliance))
    assert reliance.reliance is not None
    scores = ClassScores(data.class_embeddings, config.callbacks.attribution.output, data.clip.logit_scale)
    with torch.no_grad():
        latents = latents_of(data, module.sae, "test")
        x = torch.cat([batch.x for batch in data.test_dataloader()])
    return Run(data, module, reliance.reliance, scores, x, latents)


def has_factor(plant: Plant, factors: dict[str, tuple[list[str], Tensor]]) -> Tensor:
    """Return `[n]` bool, which images have what was planted."""
    name = {"spurious": "background", "typographic": "word"}.get(plant.kind, "class")
    values, truth = factors[name]
    return truth == values.index(plant.factor)


def judge(run: Run, plant: Plant) -> dict[str, float]:
    """Return the culprits, and how well `u_j` ranks them, for one case."""
    images = run.data.images("test")
    c, planted = images.class_names.index(plant.thing), has_factor(plant, dict(images.factors))
    auroc = sparse_auroc(run.latents, planted)
    candidates = ((auroc >= PREDICTS) & run.alive).nonzero().flatten().tolist()
    change = score_changes(run, c, candidates, planted & (images.targets != c))
    culprit = torch.zeros(run.latents.d_sae, dtype=torch.bool)
    culprit[[j for j, value in zip(candidates, change, strict=True) if value < 0]] = True
    return {
        "best_auroc": float(auroc[run.alive].max()),
        "culprits": int(culprit.sum()),
        "precision": precision(culprit[run.alive], run.reliance.u[c][run.alive]),
        "share": float(run.reliance.share[c]),
    }


def score_changes(run: Run, c: int, latents: list[int], chosen: Tensor) -> list[float]:
    """Return the mean change of the score of class `c` when each latent is removed.

    The mean is over the chosen test images.
    """
    if not latents:
        return []
    metric = AblationEffects([Removal(c, (j,)) for j in latents], run.scores, len(chosen))
    W_dec, x = run.module.sae.W_dec.detach(), run.x[:, None]
    metric.update(Explained(run.data.tail, W_dec, x, x, run.latents), torch.where(chosen, c, -1))
    effects = metric.effects()
    changes: list[float] = (effects.score_without - effects.score).tolist()
    return changes


def precision(culprit: Tensor, u: Tensor) -> float:
    """Return the average precision of the ranking by `u`, 0 without a culprit."""
    return float(average_precision_score(culprit.numpy(), u.numpy())) if culprit.any() else 0.0


def measure(folder: Path, seed: int) -> pd.DataFrame:
    """Return a row per case of one run."""
    run = open_run(folder)
    rows = [
        {"kind": p.kind, "class": p.thing, "factor": p.factor, "seed": seed} | judge(run, p) for p in PLANTS
    ]
    return pd.DataFrame(rows)


def summarise(biased: pd.DataFrame, balanced: pd.DataFrame) -> pd.DataFrame:
    """Return a row per seed: mean average precision and shares over the judged cases, and over all."""
    rows = []
    for seed, cases in biased.groupby("seed"):
        same = balanced[balanced["seed"] == seed]
        row = {"seed": seed, "precision": cases[cases["kind"].isin(JUDGED)]["precision"].mean()}
        for name, kinds in {"": JUDGED, " (all kinds)": tuple(biased["kind"].unique())}.items():
            shares = [part[part["kind"].isin(kinds)]["share"].mean() for part in (cases, same)]
            row |= {
                f"share{name}": shares[0],
                f"balanced{name}": shares[1],
                f"ratio{name}": np.divide(*shares),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def report(console: Console, biased: pd.DataFrame, balanced: pd.DataFrame, summary: pd.DataFrame) -> None:
    """Print the cases, each with its values over the seeds, and the goals."""
    table = Table(
        "kind", "class", "factor", "best AUROC", "culprits", "average precision", "share", "balanced"
    )
    keys = ["kind", "class", "factor"]
    other = dict(list(balanced.groupby(keys, sort=False)))
    for key, rows in biased.groupby(keys, sort=False):
        columns = {name: [f"{v:.2f}" for v in rows[name]] for name in ("best_auroc", "precision", "share")}
        table.add_row(
            *key,
            " ".join(columns["best_auroc"]),
            " ".join(str(v) for v in rows["culprits"]),
            " ".join(columns["precision"]),
            " ".join(columns["share"]),
            " ".join(f"{v:.2f}" for v in other[key]["share"]),
        )
    console.print(table)
    console.print(summary.round(3).to_string(index=False))
    kinds = " and ".join(JUDGED)
    console.print(
        f"mean average precision, {kinds}: {summary['precision'].mean():.3f} (goal {GOAL_PRECISION}); "
        f"unexpected share, biased against balanced: {summary['ratio'].mean():.2f} times, at least "
        f"{summary['ratio'].min():.2f} (goal {GOAL_RATIO})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py, for what is trained")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    found: dict[str, list[pd.DataFrame]] = {"world_biased": [], "world_balanced": []}
    for seed in options.seeds:
        for clip, parts in found.items():
            folder = options.runs.resolve() / f"{clip}-seed{seed}"
            if not (folder / "checkpoints" / "last.ckpt").exists():
                train(folder, seed, clip, options.overrides)
            parts.append(measure(folder, seed))
    biased, balanced = (pd.concat(parts) for parts in found.values())
    summary = summarise(biased, balanced)
    report(Console(width=160), biased, balanced, summary)
    pd.concat([biased.assign(edition="biased"), balanced.assign(edition="balanced")]).to_csv(
        options.runs / "reliance_cases.csv", index=False
    )


if __name__ == "__main__":
    main()
