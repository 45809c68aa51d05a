"""A sweep of 16 jobs on one store against 16 separate runs, each with its own: `python benchmarks/sweep.py`.

Counts the images that went through CLIP, as the captures report them, and takes the wall time of both.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

KS, LRS = (4, 8, 16, 32), (5e-4, 1e-3, 2e-3, 4e-3)


class Way(NamedTuple):
    """The cost of one way of running all jobs."""

    seconds: float
    images: int


def train(*arguments: str) -> Way:
    """Run train.py once; a multirun is one call."""
    start = time.perf_counter()
    environment = {**os.environ, "COLUMNS": "120"}  # so that no line of a capture is shortened
    command = [sys.executable, "train.py", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    captured = re.findall(r"capturing .*: ([\d,]+) images in ", done.stdout)
    return Way(time.perf_counter() - start, sum(int(n.replace(",", "")) for n in captured))


def separate(folder: Path, jobs: list[tuple[int, float]], small: list[str]) -> Way:
    """Return one process and one store for each job."""
    ways = [
        train(f"hydra.run.dir={run}", f"data.store_dir={run}/store", f"sae.k={k}", f"module.lr={lr}", *small)
        for run, (k, lr) in ((folder / str(i), job) for i, job in enumerate(jobs))
    ]
    return Way(sum(way.seconds for way in ways), sum(way.images for way in ways))


def sweep(folder: Path, ks: Sequence[int], lrs: Sequence[float], small: list[str]) -> Way:
    """Return all jobs in one multirun."""
    values = [f"{key}={','.join(map(str, tried))}" for key, tried in (("sae.k", ks), ("module.lr", lrs))]
    return train("-m", f"hydra.sweep.dir={folder}", f"data.store_dir={folder}/store", *values, *small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="2 jobs, for a check that it runs")
    parser.add_argument("--images", type=int, default=24_000, help="for training; a sixth for validation")
    parser.add_argument("--steps", type=int, default=2500, help="of each training")
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py")
    options = parser.parse_args()
    ks, lrs = (KS[:2], LRS[:1]) if options.short else (KS, LRS)
    jobs = list(itertools.product(ks, lrs))
    small = [f"data.n_train={options.images}", f"data.n_val={options.images // 6}", "logger=csv"]
    small += [f"trainer.max_steps={options.steps}", f"trainer.val_check_interval={options.steps}"]
    small += options.overrides
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            f"a sweep of {len(jobs)} jobs on one store": sweep(Path(folder, "sweep"), ks, lrs, small),
            f"{len(jobs)} separate runs": separate(Path(folder, "separate"), jobs, small),
        }
    table = Table("", "images through CLIP", "wall time, s", "share", title="Sharing a store")
    most = max(way.seconds for way in ways.values())
    for name, way in ways.items():
        table.add_row(name, f"{way.images:,}", f"{way.seconds:.0f}", f"{way.seconds / most:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
