"""FVU, dead latents and recovered directions beside the public packages: `python benchmarks/quality.py`.

Every variant at several sparsities, trained by each package that has it on the same activations, with the
same width, batch, steps and seeds, and judged by the metrics of `lightning_sae` on other activations. A
package is run at its own learning rate and at ours. What is trained is kept in `DIR/quality_*.csv`, so that a
second start goes on. `pip install -e ".[peers]"` brings the packages; one that cannot run is named with the
reason.
"""

import argparse
import csv
import logging
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from activations import Activations, load
from interleaved import machine
from lightning.pytorch import seed_everything
from matplotlib.ticker import LogLocator, NullFormatter
from recovery import detection_f1, match, max_cosines
from rich.console import Console
from rich.progress import track
from rich.table import Table
from variant_trainings import OURS, PACKAGES, Rows, Task, Trained

from lightning_sae.metrics import FVU, L0

OUR_LR = 2e-3  # of conf/module/default.yaml
TOLERANCE = 0.02  # of FVU, below our curve
COUNTS, WEIGHTS = (8.0, 16.0, 32.0), (0.006, 0.012, 0.025)
WIDER = {"counts": (4.0, 12.0, 24.0, 64.0), "weights": (0.003, 0.009, 0.018, 0.05, 0.1)}  # of ours as well
VARIANTS = ("topk", "batch_topk", "matryoshka", "relu", "gated", "jump_relu")
KEYS = ("package", "variant", "lr", "sparsity", "seed")
Row = dict[str, Any]


def sparsities(package: str, variant: str, scale: float) -> list[float]:
    """Return the points of a package; `scale` fits the counts to the data."""
    kind, values = ("weights", WEIGHTS) if variant in ("relu", "gated") else ("counts", COUNTS)
    values = tuple(sorted(values + WIDER[kind])) if package == OURS else values
    return [value * scale for value in values] if kind == "counts" else [*values]


def jobs(options: argparse.Namespace, scale: float) -> list[tuple[str, Task]]:
    """Return all trainings."""
    size = (options.d_sae, options.steps, options.batch, options.dead_after)
    return [
        (package, Task(variant, sparsity, *size, seed, lr))
        for seed in options.seeds
        for variant in options.variants
        for package in options.packages
        for lr in ((None,) if package == OURS else (None, OUR_LR))
        for sparsity in sparsities(package, variant, scale)[: 2 if options.short else None]
    ]


@torch.no_grad()
def judge(trained: Trained, data: Activations) -> dict[str, float]:
    """Return what the table shows, on `val`; dead latents on `train`."""
    x_hat, latents = trained.reconstruct(data.val)
    fvu, l0 = FVU(data.val.shape[1]), L0()
    fvu.update(data.val, x_hat)
    l0.update(latents)
    fired = sum(trained.reconstruct(x)[1].fired() for x in data.train.split(4096))
    result = {"fvu": float(fvu.compute()), "l0": float(l0.compute())}
    result["dead"] = float((torch.as_tensor(fired) == 0).float().mean())
    if data.directions is not None and data.present is not None:
        chosen, cosines = match(trained.rows, data.directions)
        result["max_cosine"] = float(max_cosines(trained.rows, data.directions).mean())
        result["matched_cosine"] = float(cosines.mean())
        result["f1"] = float(detection_f1(latents, chosen, data.present).mean())
    return result


def run(todo: list[tuple[str, Task]], data: Activations, path: Path, console: Console) -> list[Row]:
    """Train what the file lacks, a line of it for each; all its lines."""
    done = {_key(row): row for row in _read(path)}
    reasons: dict[str, str] = {}
    for package, task in track(todo, "training", console=console):
        row: Row = {"package": package, "variant": task.variant, "lr": task.lr or "own"}
        row |= {"sparsity": task.sparsity, "seed": task.seed}
        name = f"{package} {task.variant}"
        if _key(row) in done or name in reasons:
            continue
        seed_everything(task.seed, verbose=False)
        start = time.perf_counter()
        try:
            trained = PACKAGES[package](task, Rows(data.train, task))
        except (ImportError, AttributeError, NotImplementedError) as error:
            reasons[name] = f"{type(error).__name__}: {error}"
            continue
        row |= {"seconds": time.perf_counter() - start} | judge(trained, data)
        _append(path, row)
        done[_key(row)] = row
    for name, reason in reasons.items():
        console.print(f"left out: {name}, {reason}")
    wanted = {
        (package, task.variant, str(task.lr or "own"), task.sparsity, task.seed) for package, task in todo
    }
    return [row for key, row in done.items() if key in wanted]


def over_seeds(rows: Iterable[Row]) -> list[Row]:
    """Return the means over the seeds."""
    groups = defaultdict(list)
    for row in rows:
        groups[_key(row)[:-1]].append(row)
    numbers = {name for row in rows for name in row} - set(KEYS)
    return [
        dict(zip(KEYS, key, strict=False))
        | {name: float(np.mean([float(row[name]) for row in group])) for name in numbers}
        for key, group in groups.items()
    ]


def compare(points: list[Row]) -> None:
    """Add to each point its FVU over that of our curve at the same L0; NaN beyond the ends of the curve."""
    for point in points:
        curve = sorted(
            (math.log(p["l0"]), math.log(p["fvu"]))
            for p in points
            if p["package"] == OURS and p["variant"] == point["variant"] and p["l0"] > 0
        )
        x, y = [c[0] for c in curve], [c[1] for c in curve]
        ours = np.interp(math.log(max(point["l0"], 1e-9)), x, y, math.nan, math.nan) if curve else math.nan
        point["ratio"] = point["fvu"] / math.exp(ours)


def show(points: list[Row], planted: bool, console: Console) -> None:
    """Print one table, and how many points lie below our curve."""
    recovery = ["max_cosine", "matched_cosine", "f1"] if planted else []
    heads = ["variant", "package", "lr", "sparsity", "L0", "FVU", "/ ours", "dead", *recovery, "s"]
    table = Table(*heads)
    order = {name: i for i, name in enumerate([*VARIANTS, *PACKAGES])}
    for p in sorted(points, key=lambda p: (order[p["variant"]], order[p["package"]], str(p["lr"]), p["l0"])):
        below = p["ratio"] < 1 - TOLERANCE
        cells = [p["variant"], p["package"], str(p["lr"]), f"{p['sparsity']:g}", f"{p['l0']:.1f}"]
        cells += [f"{p['fvu']:.4f}", f"{p['ratio']:.3f}{' <' if below else ''}", f"{p['dead']:.1%}"]
        table.add_row(*cells, *(f"{p[name]:.3f}" for name in recovery), f"{p['seconds']:.0f}")
    console.print(table)
    peers = [p for p in points if p["package"] != OURS and not math.isnan(p["ratio"])]
    missed = [p for p in peers if p["ratio"] < 1 - TOLERANCE]
    console.print(f"{len(missed)} of {len(peers)} points lie more than {TOLERANCE:.0%} below our curve")


def draw(path: Path, points: list[Row]) -> None:
    """Draw FVU over L0, a panel for each variant."""
    variants = [name for name in VARIANTS if any(p["variant"] == name for p in points)]
    columns = min(3, len(variants))
    size = (3.2 * columns, 2.8 * math.ceil(len(variants) / columns))
    grid = (math.ceil(len(variants) / columns), columns)
    figure, panels = plt.subplots(*grid, figsize=size, layout="constrained", squeeze=False)
    for axes, variant in zip(panels.flat, variants, strict=False):
        for colour, package in enumerate(PACKAGES):
            for lr, marker in (("own", "o"), (str(OUR_LR), "^")):
                curve = [(p["variant"], p["package"], str(p["lr"])) for p in points]
                chosen = [p for p, key in zip(points, curve, strict=True) if key == (variant, package, lr)]
                chosen.sort(key=lambda p: p["l0"])
                line = {"linewidth": 2 if package == OURS else 0.7, "color": f"C{colour}", "marker": marker}
                label = package if package == OURS else f"{package}, lr {lr}"
                if chosen:
                    axes.loglog([p["l0"] for p in chosen], [p["fvu"] for p in chosen], label=label, **line)
        axes.set(title=variant, xlabel="L0", ylabel="FVU")
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2, which="both")
    named = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
    figure.legend(handles=[*named.values()], loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _key(row: Row) -> tuple[Any, ...]:
    sparsity, seed = float(row["sparsity"]), int(row.get("seed", 0))
    return (row["package"], row["variant"], str(row["lr"]), sparsity, seed)


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, row: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*row])
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--data", default="world", help="world, planted, or a hook point's folder in a store")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder of the CSV file")
    parser.add_argument("--picture", type=Path, help="where the Pareto picture goes")
    parser.add_argument("--d-sae", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--dead-after", type=int, default=50_000, help="tokens without a firing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--packages", nargs="+", default=[*PACKAGES], choices=[*PACKAGES])
    options = parser.parse_args()
    if options.short:
        options.d_sae, options.steps, options.batch = 192, 4, 128
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    console = Console(width=140)
    console.print(f"{machine()}; {options.data}, {options.d_sae} latents, {options.steps} steps")
    data = load(options.data, options.short)
    size = f"{options.d_sae}x{options.steps}x{options.batch}x{options.dead_after}"
    path = options.out / f"quality_{Path(options.data).name}_{size}.csv"
    todo = jobs(options, scale=0.5 if options.data == "planted" else 1.0)
    points = over_seeds(run(todo, data, path, console))
    compare(points)
    show(points, data.directions is not None, console)
    if options.picture:
        draw(options.picture, points)
    console.print(f"numbers in {path}" + (f", picture in {options.picture}" if options.picture else ""))


if __name__ == "__main__":
    main()
