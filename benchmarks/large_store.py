"""A store of two million rows, read shuffled: `python benchmarks/large_store.py`.

Rows of width 768 in float16 (3.1 GB) are written as a capture writes them and read in shuffled passes of
batches of 1,024, memory-mapped and warm, on one thread beside the one that reads ahead. Printed are rows per
second of wall time and of processor time, and the memory of the process without the pages of the files
(`RssAnon`), which is to stay flat. Each row carries its number, so every pass checks that it gives each row
once. `--batch-size 4096 --dtype float32` and the like show other settings.
"""

import argparse
import re
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from interleaved import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lightning_sae.data import ActivationStore, Moments, TrainLoader
from lightning_sae.data.store.shards import ShardFolder

DTYPES = {"float32": torch.float32, "float16": torch.float16}
SHARD = 65_536
BASE = 2048  # a row's number in three columns, exact in float16


class Pass(NamedTuple):
    """One pass over the store."""

    rows: int
    seconds: float
    processor_seconds: float
    megabytes: float  # anonymous memory at its end


def numbers(start: int, stop: int) -> Tensor:
    """Return `[stop - start, 3]`, digits to the base 2,048 of the rows' numbers."""
    rows = torch.arange(start, stop)
    return torch.stack([rows // BASE**2, rows // BASE % BASE, rows % BASE], 1).float()


def write_store(folder: Path, n: int, d_in: int, dtype: torch.dtype) -> None:
    """Write shards of random rows that carry their numbers."""
    noise = torch.randn(min(n, SHARD), d_in)
    moments = Moments.of(noise)
    spread = torch.tensor(moments.spread, dtype=torch.float64)
    shards = ShardFolder(folder, {}, n, SHARD)
    for shard in range(shards.n_shards):
        images = shards.images(shard)
        noise[: len(images), :3] = numbers(images.start, images.stop)
        x = noise[: len(images), None].to(dtype)
        shards.write(shard, {"x": x, "mean": moments.mean, "spread": spread})
    shards.finish(moments.statistics())


def anonymous_megabytes() -> float:
    """Return the memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s*(\d+) kB", status)
    return int(found[1]) / 1e3 if found else float("nan")


def read(loader: TrainLoader) -> Pass:
    """Return one pass; raises where a row comes twice."""
    seen, rows = torch.zeros(len(loader.store), dtype=torch.bool), torch.empty(len(loader.store))
    base, done = torch.tensor([BASE**2, BASE, 1.0]), 0
    start, processor = time.perf_counter(), time.process_time()
    for batch in loader:  # into one tensor: small ones that stay keep the allocator from using memory again
        torch.matmul(batch.x[:, :3], base, out=rows[done : done + len(batch.x)])
        done += len(batch.x)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor
    rows = rows[:done].long()
    seen[rows] = True
    if int(seen.sum()) != len(rows):
        raise AssertionError(f"{len(rows) - int(seen.sum())} rows came twice")
    return Pass(len(rows), seconds, processor_seconds, anonymous_megabytes())


def table(passes: list[Pass]) -> Table:
    table = Table("pass", "rows/s", "rows per processor second", "memory, MB", title="shuffled passes")
    for i, each in enumerate(passes):
        speeds = each.rows / each.seconds, each.rows / each.processor_seconds
        table.add_row(str(i), *(f"{speed:,.0f}" for speed in speeds), f"{each.megabytes:,.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--d-in", type=int, default=768)
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--passes", type=int, default=6, help="the first warms up")
    parser.add_argument("--folder", help="where the store is made for a while")
    parser.add_argument("--short", action="store_true", help="few rows, for a check that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, d_in = (100_000, 16) if options.short else (options.rows, options.d_in)
    console = Console(width=110)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        arguments = Path(folder, "store"), n, d_in, DTYPES[options.dtype]
        writer = get_context("fork").Process(target=write_store, args=arguments)
        writer.start()  # in a process of its own: its memory is not that of the reading
        writer.join()
        store = ActivationStore(Path(folder, "store"), memory_limit_gb=0)
        loader = TrainLoader(store, torch.zeros(n, dtype=torch.int64), options.batch_size, seed=0)
        passes = [read(loader) for _ in range(options.passes)]
    console.print(f"{machine()}; {n:,} rows, d_in {d_in}, {options.dtype}, batch {options.batch_size}")
    console.print(table(passes))


if __name__ == "__main__":
    main()
