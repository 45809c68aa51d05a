"""One training step, ours and everybody's: `python benchmarks/step.py`.

All contenders take the same batches in turn, in one run: only ratios inside it count. Ours does all that a
training does (AuxK on, with no latent dead as for the peers; counters, clipping, unit norm); *in fit* is the
same inside Lightning's Trainer with a logger. The floor is the encoder's matrix product and one fused Adam
step. The peers are in `peers.py`. `--device cuda` measures on a GPU instead, see `gpu_steps.py`.
"""

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gpu_steps
import torch
from interleaved import machine, save_bars
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from peers import ALIVE_FOR, Step, build_peers
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.optim import Adam

from lightning_sae.sae import TopK
from lightning_sae.training.clipping import clip_by_scale
from lightning_sae.training.module import SAEModule
from lightning_sae.types import Batch

D_IN, K, BATCH = 768, 64, 1024
OURS, SCREENED, IN_FIT, DEAD = "ours, exact", "ours, screened", "ours, in fit", "ours, 5 % dead"
PRODUCT, ADAM = "floor: product", "floor: fused Adam"
FUSED = ", fused Adam"
GOALS = {8192: (2.0, 1.6), 24576: (2.3, 1.6)}  # against the fastest peer as it is, and with fused Adam


class Statistics(NamedTuple):
    """No normalisation."""

    mean: Tensor
    scale: float


class Interleaved(LightningDataModule):
    """Feeds a training, and takes the other steps' times between its own."""

    def __init__(self, x: Tensor, others: dict[str, Step], repeats: int) -> None:
        super().__init__()
        self.x, self.others, self.repeats = x, others, repeats
        self.d_in, self.statistics = x.shape[1], Statistics(torch.zeros(x.shape[1]), 1.0)
        self.seconds: dict[str, list[float]] = {name: [] for name in [IN_FIT, *others]}

    def train_dataloader(self) -> "Interleaved":
        """Return itself."""
        return self

    def train_batches(self) -> Iterator[Tensor]:
        """Return no batches: what happens at the end of a training is not measured."""
        return iter(())

    def __len__(self) -> int:
        return self.repeats

    def __iter__(self) -> Iterator[Batch]:
        ids = torch.zeros(len(self.x), dtype=torch.int64)
        for _ in range(self.repeats):
            for name, step in self.others.items():
                start = time.perf_counter()
                step(self.x)
                self.seconds[name].append(time.perf_counter() - start)
            start = time.perf_counter()
            yield Batch(self.x, ids, ids)
            self.seconds[IN_FIT].append(time.perf_counter() - start)

    def medians(self) -> dict[str, float]:
        """Return the seconds per step, without the first two."""
        return {name: statistics.median(each[2:]) for name, each in self.seconds.items()}


def our_step(d_in: int, d_sae: int, k: int, selection: Any, dead: float = 0.0) -> Step:
    """Return what `SAEModule` does in a step, without Lightning."""
    sae = TopK(d_in, d_sae, k, dead_after=ALIVE_FOR, selection=selection)
    sae.tokens_since_fired[: round(dead * d_sae)] = 2 * ALIVE_FOR
    optimiser = Adam(sae.parameters(), lr=1e-4, fused=True)

    def step(x: Tensor) -> None:
        loss, latents, _ = sae.training_loss(x)
        sae.zero_grad()
        loss.backward()
        clip_by_scale(optimiser, 1.0)
        optimiser.step()
        sae.normalise_decoder()
        fired = latents.fired()
        fired[: round(dead * d_sae)] = False
        sae.count_firings(fired, len(x))

    return step


def floor(x: Tensor, d_sae: int) -> dict[str, Step]:
    """Return what no exact step can do without."""
    rows = torch.randn(d_sae, x.shape[1])
    parameters = [torch.nn.Parameter(torch.zeros_like(rows)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(rows)
    optimiser = Adam(parameters, lr=1e-9, fused=True)
    pre_acts = torch.empty(len(x), d_sae)
    return {PRODUCT: lambda x: torch.mm(x, rows.T, out=pre_acts), ADAM: lambda _: optimiser.step()}


def contenders(x: Tensor, d_sae: int, k: int) -> tuple[dict[str, Step], dict[str, str]]:
    """Return all steps but the one in fit; of the peers that are missing, why."""
    d_in = x.shape[1]
    steps = floor(x, d_sae) | {
        OURS: our_step(d_in, d_sae, k, "exact"),
        SCREENED: our_step(d_in, d_sae, k, "screened"),
        DEAD: our_step(d_in, d_sae, k, "exact", dead=0.05),
    }
    shipped, reasons = build_peers(d_in, d_sae, k, fused=False)
    fused, _ = build_peers(d_in, d_sae, k, fused=True)
    return steps | shipped | {name + FUSED: step for name, step in fused.items()}, reasons


def measure(x: Tensor, d_sae: int, k: int, repeats: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the median seconds of every step, taken in turn."""
    steps, reasons = contenders(x, d_sae, k)
    data = Interleaved(x, steps, repeats)
    sae = partial(TopK, d_sae=d_sae, k=k, dead_after=ALIVE_FOR, selection="exact")
    module = SAEModule(sae, lr=1e-4, warmup_steps=0, decay_fraction=0.0, gradient_clip=1.0)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = Trainer(accelerator="cpu", max_epochs=1, logger=CSVLogger(folder), **quiet)
        trainer.fit(module, data)
    return data.medians(), reasons


def judge(seconds: dict[str, float], d_sae: int) -> Table:
    """Return the goals."""
    peers = [n for n in seconds if not n.startswith(("ours", "floor", "dense"))]
    shipped = {n: seconds[n] for n in peers if not n.endswith(FUSED)}
    fused = {n: seconds[n] for n in peers if n.endswith(FUSED)}
    exact, dense = seconds[OURS], seconds["dense reference"]
    goals = GOALS.get(d_sae, (None, None))
    rows: list[tuple[str, float, float | None]] = [
        ("share of the floor, exact", (seconds[PRODUCT] + seconds[ADAM]) / exact, 0.60),
        ("in fit against the bare step", exact / seconds[IN_FIT], 0.93),
        ("dense reference / exact", dense / exact, 4.0),
        ("dense reference / screened", dense / seconds[SCREENED], 7.0 if has_matrix_units() else None),
    ]
    for names, goal in ((shipped, goals[0]), (fused, goals[1])):
        if names:
            fastest = min(names, key=names.__getitem__)
            rows.append((f"{fastest} / exact", names[fastest] / exact, goal))
            rows.append((f"{fastest} / screened", names[fastest] / seconds[SCREENED], None))
    table = Table("", "measured", "goal", title=f"d_sae {d_sae}")
    for name, value, goal in rows:
        table.add_row(name, f"{value:.2f}", "" if goal is None else f"{goal:.2f}")
    return table


def has_matrix_units() -> bool:
    """Return whether the CPU multiplies bf16 matrices in hardware, as AMX does."""
    return bool(torch.cpu._is_amx_tile_supported())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--device", help="cuda or cuda:N: what a GPU does; cpu: the same steps, to try them")
    parser.add_argument("--rounds", type=int, default=7, help="with --device: turns of all contenders")
    parser.add_argument("--page", type=Path, help="with --device: where tables for the docs go")
    parser.add_argument("--d-sae", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--picture", type=Path, help="where a picture of the milliseconds goes")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    d_in, k, batch = (32, 4, 64) if options.short else (D_IN, K, BATCH)
    console = Console(width=110)
    if options.device:
        device = torch.device(options.device)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
        console.print(f"{name}, torch {torch.__version__}")
        sizes = [gpu_steps.SHORT] if options.short else [gpu_steps.BIG, gpu_steps.SMALL]
        gpu_steps.run(device, sizes, 2 if options.short else options.rounds, console, options.page)
        return
    console.print(f"{machine()}; d_in {d_in}, batch {batch}, k {k}")
    x = torch.randn(batch, d_in)
    for d_sae in [256] if options.short else options.d_sae:
        seconds, reasons = measure(x, d_sae, k, 4 if options.short else options.repeats)
        table = Table("", "ms per step", title=f"d_sae {d_sae}")
        for name, each in sorted(seconds.items(), key=lambda item: item[1]):
            table.add_row(name, f"{1e3 * each:.1f}")
        console.print(table, judge(seconds, d_sae), *(f"without {n}: {why}" for n, why in reasons.items()))
    if options.picture:
        fastest_first = sorted(seconds.items(), key=lambda item: item[1])
        save_bars(options.picture, f"ms per step, d_sae {d_sae}", {n: 1e3 * s for n, s in fastest_first})


if __name__ == "__main__":
    main()
