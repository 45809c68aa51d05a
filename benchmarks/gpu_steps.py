"""What `step.py --device cuda` does: whole training steps on a GPU, ours and everybody's, interleaved.

Each contender takes a few steps between two events, in turn with the others; only ratios inside one run
count. Ours does all that a training does (AuxK on, counters, clipping, unit norm), in float32 and under
autocast.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from peers import ALIVE_FOR, Step, build_peers, dense_reference
from rich.table import Table
from torch import Tensor
from torch.optim import Adam

from lightning_sae.sae import BatchTopK, MatryoshkaBatchTopK, SparseAutoencoder, TopK
from lightning_sae.training.clipping import clip_by_scale
from lightning_sae.training.module import SAEModule
from lightning_sae.types import Batch

OURS, MIXED, TORCH = "ours", "ours, bf16-mixed", "ours, PyTorch's kernels"
DEAD, DENSE, IN_FIT = "ours, 5 % dead", "dense, bf16 autocast", "ours, in fit"
BATCH_TOPK, MATRYOSHKA = "ours, BatchTopK", "ours, Matryoshka"
PRODUCT, ADAM = "floor: bf16 product", "floor: fused Adam"
STEPS = 5  # between two events


class Size(NamedTuple):
    """The sizes of an autoencoder and its batches."""

    d_in: int
    d_sae: int
    k: int
    batch: int


BIG, SMALL = Size(1024, 32_768, 64, 16_384), Size(768, 24_576, 64, 4096)
SHORT = Size(32, 256, 4, 64)


class Goal(NamedTuple):
    """The goal of a ratio: at least, and aimed at; of a ratio that shall be small, at most."""

    name: str
    value: float
    least: float
    aim: float


class Statistics(NamedTuple):
    """No normalisation."""

    mean: Tensor
    scale: float


class Repeated(LightningDataModule):
    """The same batch on the device again and again, timed in its second half."""

    def __init__(self, x: Tensor, steps: int) -> None:
        super().__init__()
        self.x, self.steps, self.seconds = x, steps, float("nan")
        self.d_in, self.statistics = x.shape[1], Statistics(torch.zeros(x.shape[1]), 1.0)

    def train_dataloader(self) -> "Repeated":
        """Return itself."""
        return self

    def train_batches(self) -> Iterator[Tensor]:
        """Return no batches: what happens at the end of a training is not measured."""
        return iter(())

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        ids = torch.zeros(len(self.x), dtype=torch.int64, device=self.x.device)
        half, start = self.steps // 2, 0.0
        for step in range(self.steps):
            if step in (half, self.steps - 1):
                wait(self.x.device)
                now = time.perf_counter()
                self.seconds, start = (now - start) / (self.steps - 1 - half), now
            yield Batch(self.x, ids, ids)


def wait(device: torch.device) -> None:
    """Wait until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def our_step(variant: type[SparseAutoencoder], size: Size, device: torch.device, **options: Any) -> Step:
    """Return what `SAEModule` does in a step, without Lightning."""
    dead, mixed = round(options.pop("dead", 0.0) * size.d_sae), options.pop("mixed", False)
    with device:
        sae: SparseAutoencoder = variant(size.d_in, size.d_sae, k=size.k, dead_after=ALIVE_FOR, **options)  # type: ignore[call-arg]
    sae.tokens_since_fired[:dead] = 2 * ALIVE_FOR
    optimiser = Adam(sae.parameters(), lr=1e-4, fused=True)

    def step(x: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16) if mixed else nullcontext():
            loss, latents, _ = sae.training_loss(x)
        sae.zero_grad()
        loss.backward()
        clip_by_scale(optimiser, 1.0)
        optimiser.step()
        sae.after_step()
        fired = latents.fired()
        fired[:dead] = False
        sae.count_firings(fired, len(x))

    return step


def floor(size: Size, device: torch.device) -> dict[str, Step]:
    """Return what no step can do without."""
    rows = torch.randn(size.d_sae, size.d_in, device=device)
    low = rows.bfloat16()
    parameters = [torch.nn.Parameter(torch.zeros_like(rows)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.ones_like(rows)
    optimiser = Adam(parameters, lr=1e-9, fused=True)
    pre_acts = torch.empty(size.batch, size.d_sae, dtype=torch.bfloat16, device=device)
    x = torch.randn(size.batch, size.d_in, device=device).bfloat16()
    return {PRODUCT: lambda _: torch.mm(x, low.T, out=pre_acts), ADAM: lambda _: optimiser.step()}


def autocast(step: Step, device: torch.device) -> Step:
    """Return a step under autocast to bf16."""

    def mixed(x: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            step(x)

    return mixed


def tf32(step: Step) -> Step:
    """Return a step whose products in float32 may round to TF32."""

    def rounded(x: Tensor) -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        step(x)
        torch.set_float32_matmul_precision(before)

    return rounded


def contenders(size: Size, device: torch.device) -> tuple[dict[str, Step], dict[str, str]]:
    """Return all steps but the one in fit; of the peers that are missing, why."""
    ours = partial(our_step, size=size, device=device)
    dense = partial(dense_reference, size.d_in, size.d_sae, size.k, True, str(device))
    steps = floor(size, device) | {
        OURS: ours(TopK),
        MIXED: ours(TopK, mixed=True),
        TORCH: ours(TopK, kernels="torch"),
        DEAD: ours(TopK, dead=0.05),
        BATCH_TOPK: ours(BatchTopK),
        MATRYOSHKA: ours(MatryoshkaBatchTopK),
        DENSE: autocast(dense(), device),
        "dense, bf16 autocast, compiled": autocast(dense(compiled=True), device),
        "dense, TF32": tf32(dense()),
    }
    peers, reasons = build_peers(size.d_in, size.d_sae, size.k, fused=True, device=str(device))
    peers.pop("dense reference", None)
    return steps | {f"{name}, TF32": tf32(step) for name, step in peers.items()}, reasons


def seconds_of(step: Callable[[Tensor], Any], x: Tensor) -> float:
    """Return the seconds of one of a few steps in a row: by events on a GPU, with no waiting in between."""
    if x.device.type != "cuda":
        start = time.perf_counter()
        for _ in range(STEPS):
            step(x)
        return (time.perf_counter() - start) / STEPS
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(STEPS):
        step(x)
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / STEPS / 1e3


def in_fit(x: Tensor, size: Size, steps: int) -> float:
    """Return the seconds of a step inside Lightning's Trainer, with a logger."""
    data = Repeated(x, steps)
    sae = partial(TopK, d_sae=size.d_sae, k=size.k, dead_after=ALIVE_FOR)
    module = SAEModule(sae, lr=1e-4, warmup_steps=0, decay_fraction=0.0, gradient_clip=1.0)
    kind = "gpu" if x.device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = Trainer(accelerator=kind, devices=1, max_epochs=1, logger=CSVLogger(folder), **quiet)
        trainer.fit(module, data)
    return data.seconds


def measure(size: Size, device: torch.device, rounds: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the median seconds of every step."""
    steps, reasons = contenders(size, device)
    x = torch.randn(size.batch, size.d_in, device=device)
    for name, step in list(steps.items()):  # compiles, and finds what does not run here
        try:
            step(x)
        except (RuntimeError, TypeError, AttributeError) as error:
            if name.startswith(("ours", "floor")):
                raise
            reasons[name] = f"{type(error).__name__}: {str(error)[:80]}"
            del steps[name]
    seconds: dict[str, list[float]] = {name: [] for name in [*steps, IN_FIT]}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step, x))
    steps.clear()
    seconds[IN_FIT].append(in_fit(x, size, 8 * STEPS))
    return {name: statistics.median(each) for name, each in seconds.items()}, reasons


def goals(seconds: dict[str, float], size: Size) -> list[Goal]:
    """Return what the issue of speed asks for, by size."""
    ours = seconds[OURS]
    peers = [seconds[n] for n in seconds if not n.startswith(("ours", "floor", "dense"))]
    big = size.batch >= BIG.batch
    of_dense = (2.3, 3.0) if big else (1.5, 2.5)
    rows = [
        Goal("dense autocast / ours", seconds[DENSE] / ours, *of_dense),
        Goal("dense autocast / ours, bf16-mixed", seconds[DENSE] / seconds[MIXED], *of_dense),
        Goal("bare step / in fit", ours / seconds[IN_FIT], 0.95, 0.98),
        Goal("5 % dead / none dead", seconds[DEAD] / ours, 1.15, 1.1),
        Goal("BatchTopK / TopK", seconds[BATCH_TOPK] / ours, 1.3, 1.1),
        Goal("Matryoshka / TopK", seconds[MATRYOSHKA] / ours, 1.4, 1.2),
    ]
    if big:
        rows.insert(0, Goal("M tokens/s", size.batch / ours / 1e6, 2.5, 3.2))
    if peers:
        rows.insert(2, Goal("fastest peer / ours", min(peers) / ours, 4.0, 5.0))
    return rows


def tables(seconds: dict[str, float], size: Size) -> list[Table]:
    """Return the milliseconds of every step, and the goals."""
    title = f"d {size.d_in}, d_sae {size.d_sae}, k {size.k}, batch {size.batch}"
    times = Table("", "ms per step", "M tokens/s", title=title)
    for name, each in sorted(seconds.items(), key=lambda item: item[1]):
        times.add_row(name, f"{1e3 * each:.2f}", f"{size.batch / each / 1e6:.2f}")
    table = Table("", "measured", "at least (most)", "aim")
    for goal in goals(seconds, size):
        table.add_row(goal.name, f"{goal.value:.2f}", f"{goal.least:.2f}", f"{goal.aim:.2f}")
    return [times, table]


def markdown(seconds: dict[str, float], size: Size) -> str:
    """Return the same for a page of the docs."""
    lines = [
        f"| d {size.d_in}, d_sae {size.d_sae}, k {size.k}, batch {size.batch} | ms per step |",
        "|---|---|",
    ]
    fastest_first = sorted(seconds.items(), key=lambda item: item[1])
    lines += [f"| {name} | {1e3 * each:.2f} |" for name, each in fastest_first]
    lines += ["", "| | measured | at least (most) | aim |", "|---|---|---|---|"]
    lines += [f"| {g.name} | {g.value:.2f} | {g.least:.2f} | {g.aim:.2f} |" for g in goals(seconds, size)]
    return "\n".join(lines)


def run(device: torch.device, sizes: list[Size], rounds: int, console: Any, page: Path | None) -> None:
    """Measure all sizes, prints tables, and writes them for the docs."""
    texts = []
    for size in sizes:
        seconds, reasons = measure(size, device, rounds)
        console.print(*tables(seconds, size), *(f"without {name}: {why}" for name, why in reasons.items()))
        texts.append(markdown(seconds, size))
    if page:
        page.write_text("\n\n".join(texts) + "\n")
        console.print(f"tables: {page}")
