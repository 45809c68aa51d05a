"""Which attribution method tells what drives the score: `python benchmarks/faithfulness.py`.

Trains the default SAE at the last block (`visual.transformer.resblocks.3`, class token) and at the one
before the middle (`visual.transformer.resblocks.1`, all tokens), or takes the run folders of `--runs`.
Prints for each method the deletion and insertion areas and the rank correlation with exact ablation, with
bootstrap intervals over the images, and whether act x grad and integrated gradients beat activation, logit
lens and random: `yes` if the intervals do not overlap, `paired` if they do, but the interval of the
difference on the same images is on the right side of zero. With `--orders N` also the rank correlation of
the first `--shapley-images` with Shapley values by N random orders, and where along the path of integrated
gradients the gradient agrees with ablation.
"""

import argparse
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_sae.attribution.explained import Explained, explain_probe
from lightning_sae.attribution.faithfulness import (
    Evidence,
    Method,
    faithfulness_table,
    measure,
    rank_correlation,
)
from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.attribution.methods import Ablation, ActGrad, IntegratedGradients
from lightning_sae.attribution.shapley import Shapley
from lightning_sae.classifiers.outputs import OUTPUTS
from lightning_sae.classifiers.scores import ImageScore, make_score
from lightning_sae.data import ActivationDataModule
from lightning_sae.metrics import interval
from lightning_sae.metrics.accuracy import predict
from lightning_sae.sae import load_sae

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {
    "last": ("visual.transformer.resblocks.3", "cls"),
    "before_the_middle": ("visual.transformer.resblocks.1", "all"),
}
OURS, RIVALS = ("act_grad", "integrated_gradients"), ("activation", "logit_lens", "random")
STEPS = 16  # of other paths
PATH = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)  # where along it the gradient is looked at
COLUMNS = ("deletion", "insertion", "rank_correlation", "deletion_difference", "insertion_difference")


def train(run: Path, layer: str, seed: int, overrides: list[str]) -> Path:
    """Run the user's command."""
    hook_point, tokens = LAYERS[layer]
    command = [sys.executable, "train.py", f"hook_point={hook_point}", f"tokens={tokens}", f"seed={seed}"]
    command += [f"hydra.run.dir={run}", "resume=false", *overrides]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def explain(cfg: DictConfig, run: Path, n_images: int) -> tuple[ActivationDataModule, Explained]:
    """Return the probe of a run with its SAE."""
    data: ActivationDataModule = hydra.utils.instantiate(cfg.data, n_probe=n_images)
    data.prepare_data()
    data.setup("test")
    sae = load_sae(run / "sae", data.clip.identity())
    return data, explain_probe(data, sae, torch.arange(len(data.probe.x)))


class Asked(NamedTuple):
    """The probe of a run, the score that is explained, and by which methods.

    Attributes:
        where: hook point, tokens, score and number of images, to be printed.
        explained: the images.
        score: of their predicted classes.
        settings: of the callback.
        methods: by name.
    """

    where: str
    explained: Explained
    score: ImageScore
    settings: DictConfig
    methods: dict[str, Method]


@torch.no_grad()
def ask(run: Path, n_images: int, output: str | None) -> Asked:
    """Open a run."""
    cfg = cast(DictConfig, OmegaConf.load(run / ".hydra" / "config.yaml"))
    settings = cfg.callbacks.faithfulness
    data, explained = explain(cfg, run, n_images)
    output = cast(str, output or settings.output or cfg.callbacks.attribution.output)
    targets = predict(data.tail(explained.x, explained.context), data.class_embeddings)
    score = make_score(data.class_embeddings, output, targets, data.clip.logit_scale)
    where = f"{data.hook.module} {data.hook.tokens}, {output} of the predicted class, {len(targets)} images"
    return Asked(where, explained, score, settings, hydra.utils.instantiate(settings.methods))


@torch.no_grad()
def truths(console: Console, asked: Asked, orders: int) -> None:
    """Print the rank correlations with both truths: of the methods, along the path, and of other paths."""
    explained, score = asked.explained, asked.score
    latents, tokens, x = explained.latents, explained.x.shape[1], explained.x
    values = {m.name: m(explained, score) for m in (Ablation(), ActGrad(), IntegratedGradients())}
    values["integrated_gradients, 64 steps"] = IntegratedGradients(64)(explained, score)
    removed = (latents.to_dense() @ explained.W_dec).view_as(x)

    def at(point: Tensor) -> Tensor:
        return gradient(explained.tail, point, score, explained.context)

    def times(g: Tensor) -> Tensor:
        return attribute(latents, explained.W_dec, g.flatten(0, 1))

    size = at(x).flatten(1).norm(dim=1)
    for alpha in PATH:
        g = at(x - (1 - alpha) * removed)
        ratio = (g.flatten(1).norm(dim=1) / size).mean()
        values[f"act x gradient at {alpha}, {ratio:.1f} times as large"] = times(g)
    ends = {"the mean image": x.mean(0), "0": 0 * x, "b_dec": explained.x_hat - removed}
    for name, end in ends.items():
        points = [(step + 0.5) / STEPS for step in range(STEPS)]
        slopes = torch.stack([at(end + alpha * (x - end)) for alpha in points])
        values[f"integrated from {name}"] = times(slopes.mean(0))
    shapley = Shapley(orders)(explained, score)
    printed = Table(f"rank correlation, {len(x)} images", "ablation", f"Shapley, {orders} orders")
    for name, value in values.items():
        pair = (rank_correlation(latents, value, truth, tokens) for truth in (values["ablation"], shapley))
        printed.add_row(name, *(f"{float(correlation.nanmean()):.2f}" for correlation in pair))
    console.print(printed)


def cell(row: "pd.Series[Any]", key: str) -> str:
    return f"{row[key]:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]"


def show(console: Console, title: str, table: pd.DataFrame) -> None:
    printed = Table("", *(column.replace("_", " ") for column in COLUMNS), title=title)
    for _, row in table.iterrows():
        printed.add_row(row["method"], *(cell(row, column) for column in COLUMNS))
    console.print(printed)


def beats(samples: Tensor, unit: Tensor | None, mine: int, rival: int, better: int) -> str:
    """Return how surely a method is better than its rival, by their values `[n, M]`.

    Larger values are better where `better` is 1, smaller ones where it is -1.
    """
    ours, other, difference = (
        interval(better * values, unit)
        for values in (samples[:, mine], samples[:, rival], samples[:, mine] - samples[:, rival])
    )
    if ours.low > other.high:
        return "yes"
    return "[yellow]paired" if difference.low > 0 else "[bold red]no"


def verdicts(console: Console, names: list[str], evidence: Evidence) -> None:
    """Print who beats whom by more than the intervals."""
    deletion, insertion = evidence.areas()
    measured = {
        "deletion": (deletion, evidence.span, -1),
        "insertion": (insertion, evidence.span, 1),
        "rank correlation": (evidence.correlation, None, 1),
    }
    printed = Table("beats by more than the intervals", *measured)
    for mine, rival in product(OURS, RIVALS):
        pair = names.index(mine), names.index(rival)
        cells = [beats(samples, unit, *pair, better) for samples, unit, better in measured.values()]
        printed.add_row(f"{mine} > {rival}", *cells)
    console.print(printed)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="+", help="run folders; without them two are trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=256, help="probe images")
    parser.add_argument("--orders", type=int, help="random orders for Shapley values; else there are none")
    parser.add_argument("--shapley-images", type=int, default=256, help="of the probe, for Shapley values")
    parser.add_argument("--outputs", nargs="+", choices=OUTPUTS, help="scores; else the runs' own")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "faithfulness", help="for the runs")
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py")
    options = parser.parse_args()
    console, out = Console(width=170), options.out.resolve()
    runs = options.runs or [
        train(out / f"{layer}-seed{options.seed}", layer, options.seed, options.overrides) for layer in LAYERS
    ]
    for run, output in product(runs, options.outputs or [None]):
        asked, start = ask(run, options.images, output), time.perf_counter()
        names, settings = list(asked.methods), asked.settings
        evidence = measure(
            asked.explained, asked.score, asked.methods, settings.truth, settings.steps, settings.batch_size
        )
        seconds = time.perf_counter() - start
        table = faithfulness_table(evidence, names, reference=OURS[0])
        show(console, f"{run.name}: {asked.where} ({seconds:.0f} s)", table)
        verdicts(console, names, evidence)
        if options.orders:
            few = asked.explained.images(0, min(options.shapley_images, options.images))
            truths(console, asked._replace(explained=few), options.orders)


if __name__ == "__main__":
    main()
