"""What several jobs on one store cost: `python benchmarks/sharing.py`.

Several processes read a shuffled pass over a store of float16 activations of width 768 at the same time, once
with a copy of their own and once memory-mapped. Their memory is the growth of their proportional set sizes
(PSS, a page that m processes share counts 1/m), so that the sum is what the machine holds; the rate is per
second of CPU time. Then as many autoencoders are trained one after the other and together, batch by batch.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import torch
from feed import write_store
from rich.console import Console
from rich.table import Table
from torch.optim import Adam

from lightning_sae.data import ActivationStore, TrainLoader
from lightning_sae.sae import TopK

D_IN = 768
BATCH = 1024


class Size(NamedTuple):
    """Rows of the store, processes, and the autoencoders that are trained."""

    n: int
    jobs: int
    d_sae: int
    k: int
    steps: int


FULL = Size(524_288, 4, 4096, 32, 20)
SHORT = Size(4096, 2, 64, 4, 2)


class Cost(NamedTuple):
    """The cost of one process: growth of the PSS in 10^6 bytes, and rows per second of CPU time."""

    memory: float
    rate: float


def pss() -> float:
    """Return the proportional set size of this process, 10^6 bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def read(folder: Path, copied: bool, size: Size, together: Barrier, results: Any) -> None:
    """Do one job: read a whole pass."""
    torch.set_num_threads(1)
    together.wait()  # all are there: what they have from their parent is divided among them
    before = pss()
    loader = open_loader(folder, copied)
    started = time.process_time()
    rows = sum(len(batch.x) for batch in loader)
    took = time.process_time() - started
    together.wait()  # all have read: now the shared pages are divided among them
    results.put(Cost(pss() - before, rows / took))
    together.wait()


def open_loader(folder: Path, copied: bool = False) -> TrainLoader:
    store = ActivationStore(folder, memory_limit_gb=0.0)
    if copied:
        store.hold("cpu")
    return TrainLoader(store, torch.zeros(len(store), dtype=torch.int64), BATCH, seed=0)


def measure_reading(folder: Path, copied: bool, size: Size) -> list[Cost]:
    context = multiprocessing.get_context("fork")  # nothing is imported anew
    results, together = context.Queue(), context.Barrier(size.jobs)
    jobs = [
        context.Process(target=read, args=(folder, copied, size, together, results)) for _ in range(size.jobs)
    ]
    for job in jobs:
        job.start()
    costs = [results.get() for _ in jobs]
    for job in jobs:
        job.join()
    return costs


def train(folder: Path, size: Size, seeds: Iterable[int]) -> float:
    """Return CPU seconds of a training of one autoencoder per seed, all on the same batches."""
    torch.set_num_threads(1)
    loader, saes = open_loader(folder), []
    for seed in seeds:
        torch.manual_seed(seed)
        saes.append(TopK(D_IN, d_sae=size.d_sae, k=size.k, dead_after=10**9))
    optimisers = [Adam(sae.parameters(), fused=True) for sae in saes]
    batches = iter(loader)
    started = time.process_time()
    for _ in range(size.steps):
        x = next(batches).x
        for sae, optimiser in zip(saes, optimisers, strict=True):
            sae.zero_grad()
            sae.training_loss(x)[0].backward()
            optimiser.step()
            sae.after_step()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    size, console = SHORT if parser.parse_args().short else FULL, Console(width=110)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_store(Path(temporary, "store"), torch.randn(size.n, D_IN).half())
        table = Table("", "memory of all, MB", "rows/s of CPU time, mean", title=f"{size.jobs} jobs")
        for name, copied in {"a copy each": True, "memory-mapped": False}.items():
            costs = measure_reading(folder, copied, size)
            memory, rate = (sum(column) for column in zip(*costs, strict=True))
            table.add_row(name, f"{memory:.0f}", f"{rate / size.jobs:,.0f}")
        console.print(f"store: {size.n * D_IN * 2 / 1e6:.0f} MB")
        console.print(table)
        alone = sum(train(folder, size, [seed]) for seed in range(size.jobs))
        together = train(folder, size, range(size.jobs))
        console.print(
            f"{size.jobs} autoencoders, CPU seconds: {alone:.1f} apart, {together:.1f} in one process"
        )


if __name__ == "__main__":
    main()
