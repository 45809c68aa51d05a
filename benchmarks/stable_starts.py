"""The starts that make seeds agree, and their price: `python benchmarks/stable_starts.py`.

TopK on the activations of the embedded world, trained by each way (`benchmarks/start_ways.py`) with several
seeds. The activations are the same in all; a seed draws the order of the batches and, unless a way is
`shared`, its start. Of every two seeds the latents are matched one to one by the cosine of their decoder
rows. `start` is their mean cosine before training, `cosine` after it, `recurs` the share of latents whose
cosine is above the level that only 5 % of random dictionaries' latents reach (directions with the covariance
of the activations), `firing` the mean correlation of the matched latents' activations on `val`, `AUROC` the
mean over the values of all factors of the best latent. Intervals are of the jackknife over seeds, since pairs
of seeds share them. Trainings are kept in `DIR`, so that a second start goes on.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from activations import CONF, SHORT_WORLD
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from interleaved import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import t
from start_ways import (
    Recipe,
    Trained,
    archetypal,
    centroids,
    data_rows,
    matched,
    pooled,
    random_rows,
)
from torch import Tensor

from lightning_sae.concepts.detectors import best_detectors
from lightning_sae.data.images.image_set import known_factors
from lightning_sae.metrics import FVU, ActiveRanks

LEVEL = 0.95  # quantile of the cosines of random dictionaries
CONFIDENCE = 0.95
FILE_NAME = str.maketrans({" ": "_", ",": None, "/": "-"})
COLUMNS = {"fvu": 4, "start": 2, "cosine": 3, "recurs": 3, "firing": 3, "auroc": 4}  # decimals


class World(NamedTuple):
    """Activations, centred and scaled, and what is known of the images.

    Attributes:
        train: `[n, d_in]`.
        val: `[n_val, d_in]`.
        factors: of `val`: `[n_val]` int64 value of each image, and how many values there are.
    """

    train: Tensor
    val: Tensor
    factors: list[tuple[Tensor, int]]


class Way(NamedTuple):
    """A way to train, `run(recipe, start, order)`, and whether all seeds begin with one start."""

    run: Callable[[Recipe, int, int], Trained]
    shared: bool = False


class Result(NamedTuple):
    """One training.

    Attributes:
        seconds: of the processor, with all that the start costs.
        fvu: on `val`.
        auroc: mean over factors of the mean over their values of the best latent's AUROC.
        start: `[d_sae, d_in]`, decoder rows before training.
        rows: `[d_sae, d_in]`, after it.
        fired: `[n_val, d_sae]` latents, dense.
    """

    seconds: float
    fvu: float
    auroc: float
    start: Tensor
    rows: Tensor
    fired: Tensor


def ways(steps: int, d_sae: int) -> dict[str, Way]:
    """Return all ways; how many trainings are pooled and how, and the hull, were chosen on seeds 0 to 2."""
    hull = partial(archetypal, radius=0.5, points=4 * d_sae)
    return {
        "random": Way(random_rows),
        "random, shared": Way(random_rows, shared=True),
        "data": Way(data_rows),
        "data, shared": Way(data_rows, shared=True),
        "k-means": Way(centroids),
        "k-means, shared": Way(centroids, shared=True),
        "archetypal": Way(hull),
        "archetypal, shared": Way(hull, shared=True),
        "pooled": Way(partial(pooled, seeds=2, pool_steps=steps // 4, steps=steps // 2)),
        "pooled, 5 x cost": Way(partial(pooled, seeds=4, pool_steps=steps, steps=steps)),
        "data, 5/4 x steps": Way(partial(_longer, data_rows, 5 / 4)),
        "k-means, 2 x steps": Way(partial(_longer, centroids, 2)),
    }


def _longer(
    way: Callable[[Recipe, int, int], Trained], factor: float, recipe: Recipe, start: int, order: int
) -> Trained:
    return way(recipe._replace(steps=round(factor * recipe.steps)), start, order)


def load_world(short: bool) -> World:
    """Return the class tokens of the default run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["run_dir=.", *(SHORT_WORLD if short else [])])
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("fit")
    mean, scale = data.statistics.mean, data.statistics.scale
    val = torch.cat([batch.x for batch in data.val_dataloader()])
    factors = [(truth, len(values)) for values, truth in known_factors(data.images("val")).values()]
    return World((torch.cat([*data.train_batches()]) - mean) * scale, (val - mean) * scale, factors)


def run(way: Way, recipe: Recipe, world: World, seed: int) -> Result:
    """Train once and judge."""
    begun = time.process_time()
    sae, start = way.run(recipe, 0 if way.shared else seed, seed)
    seconds = time.process_time() - begun
    with torch.no_grad():
        x_hat, latents = sae(world.val)
        fvu = FVU(world.val.shape[1])
        fvu.update(world.val, x_hat)
        ranks = ActiveRanks.of(latents)
        aurocs = [float(best_detectors(ranks, *factor).auroc.nanmean()) for factor in world.factors]
        return Result(
            seconds,
            float(fvu.compute()),
            statistics.mean(aurocs),
            start,
            sae.W_dec.detach(),
            latents.to_dense(),
        )


def kept(path: Path, make: Callable[[], Result]) -> Result:
    """Return what the file holds, or make it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tuple(make()), path)
    return Result(*torch.load(path, weights_only=True))


def random_level(x: Tensor, d_sae: int, draws: int = 5) -> float:
    """Return the cosine that only 5 % of the matched latents of random dictionaries exceed."""
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    root = vectors * values.clamp_min(0).sqrt()
    random = torch.Generator().manual_seed(0)
    rows = [torch.randn(d_sae, x.shape[1], generator=random) @ root.T for _ in range(2 * draws)]
    cosines = [matched(*pair)[1] for pair in zip(rows[::2], rows[1::2], strict=True)]
    return float(torch.cat(cosines).quantile(LEVEL))


class Agreement(NamedTuple):
    """The agreement of two seeds, in means over matched latents."""

    start: float
    cosine: float
    recurs: float
    firing: float


def agreement(one: Result, other: Result, level: float) -> Agreement:
    """Match the latents of two seeds."""
    partner, cosine = matched(one.rows, other.rows)
    first, second = (fired - fired.mean(0) for fired in (one.fired, other.fired[:, partner]))
    correlation = (first * second).sum(0) / (first.norm(dim=0) * second.norm(dim=0)).clamp_min(1e-12)
    start = matched(one.start, other.start)[1]
    numbers = start.mean(), cosine.mean(), (cosine > level).float().mean(), correlation.mean()
    return Agreement(*(float(number) for number in numbers))


def summaries(results: Sequence[Result], level: float) -> dict[str, Callable[[Sequence[int]], float]]:
    """Return each column as a function of the places of the seeds that count."""
    shared = {
        (i, j): agreement(results[i], results[j], level)
        for i, j in itertools.combinations(range(len(results)), 2)
    }

    def over_pairs(name: str, places: Sequence[int]) -> float:
        return statistics.mean(getattr(shared[pair], name) for pair in itertools.combinations(places, 2))

    def over_seeds(name: str, places: Sequence[int]) -> float:
        return statistics.mean(getattr(results[i], name) for i in places)

    return {name: partial(over_seeds, name) for name in ("seconds", "fvu", "auroc")} | {
        name: partial(over_pairs, name) for name in Agreement._fields
    }


def jackknife(n: int, summary: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    """Return a summary of `n` seeds and half the width of its interval, NaN from fewer than three.

    `t sqrt((n - 1) / n sum (s_-i - mean s_-i)^2)` with the summaries without one seed (Tukey 1958). For a
    mean over seeds it is Student's interval; it also holds for means over pairs, which share seeds.

    Example:
        >>> jackknife(4, lambda places: sum(places) / len(places))  # 0, 1, 2, 3: 3.18 sqrt(5 / 3 / 4)
        (1.5, 2.05...)
    """
    places = range(n)
    if n < 3:
        return summary(places), float("nan")
    without = [summary([other for other in places if other != i]) for i in places]
    error = ((n - 1) * statistics.pvariance(without)) ** 0.5
    return summary(places), float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error


def show(found: dict[str, list[Result]], level: float, console: Console) -> None:
    """Print the numbers, and their differences from the first way on the same seeds."""
    n = len(next(iter(found.values())))
    columns = {name: summaries(results, level) for name, results in found.items()}
    first = next(iter(columns))
    for title in (f"{n} seeds", f"less {first}, same seeds"):
        table = Table("", "CPU s", *COLUMNS, title=title)
        for name, summary in columns.items():
            base = columns[first] if title.startswith("less") else None
            if base and name == first:
                continue
            cells = [_cell(n, summary[key], base and base[key], digits) for key, digits in COLUMNS.items()]
            table.add_row(name, f"{jackknife(n, summary['seconds'])[0]:.1f}", *cells)
        console.print(table)


def _cell(
    n: int,
    summary: Callable[[Sequence[int]], float],
    base: Callable[[Sequence[int]], float] | None,
    digits: int,
) -> str:
    value, half = jackknife(n, lambda places: summary(places) - (base(places) if base else 0.0))
    return f"{value:{'+' if base else ''}.{digits}f} ± {half:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5, 6, 7])
    parser.add_argument("--ways", nargs="+", help="some by name; others differ from the first")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path("outputs/stable_starts"), metavar="DIR")
    options = parser.parse_args()
    world = load_world(options.short)
    d_sae, k, steps = (32, 4, 8) if options.short else (256, 16, options.steps)
    recipe = Recipe(world.train, d_sae, k, steps, options.batch)
    every = ways(steps, d_sae)
    console, found = Console(width=140), dict[str, list[Result]]()
    level = random_level(world.train, d_sae)
    console.print(
        f"{machine()}; {d_sae} latents, k {k}, {steps} steps of {options.batch}; seeds "
        f"{', '.join(map(str, options.seeds))}; recurs: cosine above {level:.3f}"
    )
    names = options.ways or [*every]
    jobs = [(name, seed) for name in names for seed in options.seeds]
    for name, seed in track(jobs, "training", console=console):
        path = options.out / f"{name.translate(FILE_NAME)}_{steps}_{options.batch}_{seed}.pt"
        one = kept(path, partial(run, every[name], recipe, world, seed))
        found.setdefault(name, []).append(one)
    show(found, level, console)


if __name__ == "__main__":
    main()
