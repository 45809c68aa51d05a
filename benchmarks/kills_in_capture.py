"""Random SIGKILLs in capture, and what becomes of the store: `python benchmarks/kills_in_capture.py`.

One process fills a store undisturbed. Then others fill stores and are killed at random moments, drawn from a
seed over the length of the undisturbed run, and started again until the store is whole. In every third store
two processes work, and one of them is killed. Every store must have the bytes of the undisturbed one, and no
shard that was there at a kill may be touched afterwards. The exit status says whether that holds.
"""

import argparse
import faulthandler
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch
from interleaved import machine
from rich.console import Console
from rich.table import Table

from lightning_sae.clip import Clip, HookPoint, load_clip
from lightning_sae.data import Capture, WorldImages, claims
from lightning_sae.world import config_path, weights_path

HOOKS = [
    HookPoint("visual.transformer.resblocks.3", "cls"),
    HookPoint("visual.transformer.resblocks.1", "all"),
]
FORK = get_context("fork")
STUCK_SECONDS = 300.0
"""A capture that takes so long says where it is, and ends: its store is not whole then."""
Files = dict[str, tuple[int, int]]


class Size(NamedTuple):
    """The sizes of what is captured."""

    n: int
    shard_images: int
    batch_size: int


FULL, SHORT = Size(192, 32, 16), Size(48, 16, 8)


class Kill(NamedTuple):
    """One SIGKILL."""

    store: int
    processes: int
    after: float  # seconds from the start of the process
    shards: int  # there at that moment, of all sub-stores
    rests: int  # temporary files and claims that were left


def start(clip: Clip, size: Size, store: Path, num_workers: int) -> BaseProcess:
    """Return a process that fills the store."""

    def work() -> None:
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        images = WorldImages("biased", size.n).split("train")
        capture = Capture(
            images,
            clip,
            HOOKS,
            store_dir=store,
            batch_size=size.batch_size,
            shard_images=size.shard_images,
            num_workers=num_workers,
        )
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            capture.fill()

    process = FORK.Process(target=work)
    process.start()
    return process


def join(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.join()


def shards(store: Path) -> Files:
    """Return each shard's file and when it was written."""
    paths = [path for path in store.rglob("[0-9]*.safetensors") if path.exists()]
    return {str(path.relative_to(store)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def contents(store: Path) -> dict[str, bytes]:
    """Return every file but the claims."""
    files = [path for path in store.rglob("*") if path.is_file() and ".claims" not in path.parts]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def changed(before: Files, now: Files) -> int:
    return sum(now.get(name) != written for name, written in before.items())


def rests(store: Path) -> int:
    return len([*store.rglob(".*.tmp"), *store.rglob("*.lock")])


class Killer:
    """Fills stores and kills who fills them."""

    def __init__(self, clip: Clip, size: Size, folder: Path, seed: int) -> None:
        self.clip, self.size, self.folder = clip, size, folder
        self.random = random.Random(seed)
        begin = time.perf_counter()
        start(clip, size, folder / "whole", 0).join()
        self.seconds = time.perf_counter() - begin
        self.whole = contents(folder / "whole")
        self.kills: list[Kill] = []
        self.same: list[bool] = []  # whether the bytes of each store are those of the undisturbed one
        self.touched = 0  # shards that were there at a kill and were written again

    def fill(self, most: int) -> None:
        """Fill one store, with at most so many kills."""
        number = len(self.same)
        store, processes = self.folder / str(number), 2 if number % 3 == 2 else 1
        before: Files = {}
        for _ in range(most):
            workers = [start(self.clip, self.size, store, number % 2) for _ in range(processes)]
            after = self.random.uniform(0, self.seconds)
            workers[0].join(after)
            if not workers[0].is_alive():
                join(workers)
                break
            os.kill(workers[0].pid or 0, signal.SIGKILL)
            workers[0].join()
            now = shards(store)
            self.kills.append(Kill(number, processes, after, len(now), rests(store)))
            self.touched += changed(before, now)
            before = now
            join(workers)
        start(self.clip, self.size, store, 0).join()
        self.touched += changed(before, shards(store))
        self.same.append(contents(store) == self.whole)

    @property
    def holds(self) -> bool:
        """True if every store is whole and nothing was made twice."""
        return all(self.same) and self.touched == 0

    def table(self) -> Table:
        """Return a row for each kill."""
        table = Table("store", "processes", "killed after s", "shards there", "rests", title="SIGKILLs")
        for kill in self.kills:
            table.add_row(
                *map(str, (kill.store, kill.processes, round(kill.after, 2), kill.shards, kill.rests))
            )
        return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--short", action="store_true", help="a small store, and leases of 5 s")
    options = parser.parse_args()
    if options.short:
        claims.LEASE_SECONDS = 5.0  # a process may be killed before it has signed its lock file
    torch.set_num_threads(1)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        clip = load_clip(config_path(), weights_path("biased"))
        killer = Killer(clip, SHORT if options.short else FULL, Path(folder), options.seed)
        while len(killer.kills) < options.kills:
            killer.fill(options.kills - len(killer.kills))
    console.print(f"{machine()}; an undisturbed capture takes {killer.seconds:.1f} s")
    console.print(killer.table())
    console.print(
        f"{len(killer.kills)} kills in {len(killer.same)} stores: {sum(killer.same)} have the bytes of the "
        f"undisturbed one, {killer.touched} shards were made twice"
    )
    sys.exit(not killer.holds)


if __name__ == "__main__":
    main()
