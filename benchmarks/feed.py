"""How fast the store feeds the training, and how long the training waits: `python benchmarks/feed.py`.

First rows per second of width 768 on one thread, in batches of 1,024 of a shuffled pass over a store that is
warm: held in memory and memory-mapped, in float32 and float16, against the bare `index_select` (with a
conversion to float32) and against PyTorch's DataLoader over single rows. Then the share of a `Trainer.fit`
that goes into waiting for batches, with a large autoencoder and with one of the embedded default's size.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from interleaved import interleave, machine, save_bars, speed_table
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_sae.data import ActivationStore, Moments, TrainLoader
from lightning_sae.data.store.shards import ShardFolder
from lightning_sae.sae import TopK
from lightning_sae.training.module import SAEModule
from lightning_sae.types import Batch

PLACES = ("in memory", "memory-mapped")  # a copy of this process alone, as on a GPU; what processes share
DTYPES = {"float32": torch.float32, "float16": torch.float16}


class Size(NamedTuple):
    """A store, and autoencoders that are trained on it."""

    n: int
    d_in: int
    batch_size: int
    naive: int  # rows that the DataLoader gives
    repeats: int
    trainings: list[tuple[int, int, int]]  # d_sae, k, steps


FULL = Size(131_072, 768, 1024, 8192, 7, [(24_576, 64, 12), (256, 16, 300)])
SHORT = Size(2048, 32, 256, 512, 1, [(128, 4, 4)])


def write_store(folder: Path, x: Tensor) -> Path:
    """Return a store of some activations `[n, d_in]`, in their own type, 8,192 rows a shard."""
    shards = ShardFolder(folder, {}, len(x), 8192)
    for shard in shards.missing():
        part = x[[*shards.images(shard)]]
        moments = Moments.of(part.float())
        spread = torch.tensor(moments.spread, dtype=torch.float64)
        shards.write(shard, {"x": part[:, None], "mean": moments.mean, "spread": spread})
    shards.finish(shards.moments().statistics())
    return folder


def one_pass(loader: TrainLoader) -> None:
    for _ in loader:
        pass


def bare(x: Tensor, batch_size: int) -> None:
    """Do what no reader can beat by much: the copies alone, of an order that is known."""
    for rows in torch.randperm(len(x)).split(batch_size):
        x.index_select(0, rows).float()


def single_rows(x: Tensor, batch_size: int) -> None:
    for _ in DataLoader(TensorDataset(x), batch_size, shuffle=True):
        pass


def measure_rows(stores: dict[str, ActivationStore], size: Size) -> dict[str, float]:
    """Return the rows per second of each way."""
    targets = torch.zeros(size.n, dtype=torch.int64)
    loaders = {name: TrainLoader(store, targets, size.batch_size, 0) for name, store in stores.items()}
    ways: dict[str, Callable[[], None]] = {}
    for dtype in DTYPES:
        x = stores[f"{dtype}, in memory"].x
        assert x is not None
        ways[f"{dtype}, bare index_select"] = partial(bare, x, size.batch_size)
        ways |= {
            name: partial(one_pass, loader) for name, loader in loaders.items() if name.startswith(dtype)
        }
    ways["float32, DataLoader of single rows"] = partial(single_rows, x[: size.naive], size.batch_size)
    for way in ways.values():
        way()  # warm
    seconds = interleave(ways, size.repeats)
    return {name: (size.naive if "single" in name else size.n) / took for name, took in seconds.items()}


class Watched:
    """A loader that keeps when each of its batches was asked for and given."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader, self.times = loader, list[tuple[float, float]]()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches, asked = iter(self.loader), time.perf_counter()
        for batch in batches:
            self.times.append((asked, time.perf_counter()))
            yield batch
            asked = time.perf_counter()

    def waiting(self) -> tuple[float, float]:
        """Return the milliseconds per step, and the share of the time that goes into waiting for batches.

        The first two steps warm up and do not count.
        """
        times = self.times[2:]
        whole = times[-1][0] - times[0][0]
        waited = sum(given - asked for asked, given in times[:-1])
        return 1e3 * whole / (len(times) - 1), waited / whole


class Data(LightningDataModule):
    """A datamodule with what `SAEModule` asks for, and nothing else."""

    def __init__(self, store: ActivationStore, batch_size: int) -> None:
        super().__init__()
        self.store, self.d_in, self.statistics = store, store.layout.d_in, store.statistics
        self.watched = Watched(TrainLoader(store, torch.zeros(len(store), dtype=torch.int64), batch_size, 0))

    def train_dataloader(self) -> Watched:
        """Return the same one for every `fit`."""
        return self.watched

    def train_batches(self) -> Iterator[Tensor]:
        """Return no batches: what happens at the end of a training is not measured."""
        return iter(())


def measure_waiting(
    store: ActivationStore, size: Size, d_sae: int, k: int, steps: int
) -> tuple[float, float]:
    """Return the milliseconds per step of a training, and the share of it that is waiting."""
    seed_everything(0, verbose=False)
    data = Data(store, size.batch_size)
    module = SAEModule(partial(TopK, d_sae=d_sae, k=k, dead_after=10**9), 1e-3, 0, 0.0, gradient_clip=1.0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", max_steps=steps, enable_model_summary=False, **quiet).fit(module, data)
    return data.watched.waiting()


def waiting_table(stores: dict[str, ActivationStore], size: Size) -> Table:
    table = Table("", "store", "ms per step", "waiting", title="Trainer.fit")
    for d_sae, k, steps in size.trainings:
        for name, store in stores.items():
            if name.startswith("float32"):
                took, share = measure_waiting(store, size, d_sae, k, steps)
                table.add_row(f"d_sae {d_sae}, k {k}", name, f"{took:.1f}", f"{share:.2%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--picture", type=Path, help="where a picture of the rows per second goes")
    options = parser.parse_args()
    size, console = SHORT if options.short else FULL, Console(width=110)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console.print(f"{machine()}; {size.n:,} rows, d_in {size.d_in}, batch {size.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        x = torch.randn(size.n, size.d_in)
        folders = {name: write_store(Path(folder, name), x.to(dtype)) for name, dtype in DTYPES.items()}
        stores = {
            f"{dtype}, {place}": ActivationStore(path, 0.0)
            for dtype, path in folders.items()
            for place in PLACES
        }
        for name, store in stores.items():
            if name.endswith(PLACES[0]):
                store.hold("cpu")
        speeds = measure_rows(stores, size)
        console.print(speed_table("rows per second", "rows/s", speeds))
        if options.picture:
            save_bars(options.picture, "rows/s", speeds)
        console.print(waiting_table(stores, size))


if __name__ == "__main__":
    main()
