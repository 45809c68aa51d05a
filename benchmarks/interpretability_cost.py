"""What the interpretability callbacks cost: `python benchmarks/interpretability_cost.py [--short]`.

At the size of ImageNet's class tokens (1.28 million images to train, 50,000 to validate, d_in 768, 30,000
latents, k 64, 1,000 classes and labels, all classes attributed) on a generated store. Printed are

- the time of an epoch of training: a sample of steps is timed and scaled to all steps of the epoch;
- the time of a validation pass without and with all interpretability callbacks of the configuration. Some
  callbacks, and the sparse probes, work at each n-th pass only: `worst` is a pass with all of them, `average`
  over n passes;
- what the first pass of a training takes beyond the later ones: it measures the baselines, embeds texts and
  draws random image sets. It is paid once, and judged against the training of the paper;
- the peak of the memory of each process, and what [images, d_sae] would take;
- how time and memory grow with images, latents, labels and classes, from a smaller base.

Each measurement is a process of its own. `--clock cpu` takes the CPU time of all threads, for a machine that
others work on; `OMP_WAIT_POLICY=passive` then keeps waiting threads from counting.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.profilers import Profiler
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from callbacks.truth import Truth
from lightning_sae.clip import Clip, load_clip, make_tail
from lightning_sae.data import (
    ActivationDataModule,
    ActivationStore,
    EvalLoader,
    Moments,
    ProbeImages,
    TrainLoader,
)
from lightning_sae.data.images.image_set import LabelledImages, Split
from lightning_sae.data.store.activations import Layout
from lightning_sae.sae import TopK
from lightning_sae.training.module import SAEModule

ROOT = Path(__file__).resolve().parents[1]
OTHER = ("progress", "checkpoint", "best_checkpoint", "save_sae", "summary")  # they interpret nothing
GOAL = 0.2  # of the time of an epoch, and of a training
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Size(NamedTuple):
    """The sizes that the cost may depend on."""

    n_train: int = 1_281_167
    n_val: int = 50_000
    d_in: int = 768
    d_sae: int = 30_000
    k: int = 64
    n_classes: int = 1000
    n_labels: int = 1000
    batch_size: int = 1024


SHORT = Size(20_000, 1_000, 64, 1_000, 8, 20, 50, 256)
BASE = Size(20_000, 5_000, 256, 4_000, 32, 100, 500)  # for the growth
SHORT_BASE = Size(5_000, 500, 64, 500, 8, 20, 50, 256)
ALL = "all"  # key of a whole pass
GROWING = {"images": "n_val", "latents": "d_sae", "labels": "n_labels", "classes": "n_classes"}


class Pictures(LabelledImages):
    """A split of plain pictures, as many as it has images, with random classes."""

    def __init__(self, split: Split, n: int, n_classes: int) -> None:
        targets = torch.randint(n_classes, (n,), generator=torch.Generator().manual_seed(n))
        super().__init__([f"class {c}" for c in range(n_classes)], targets)
        self.name = split

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (64, 64), (index % 256, index // 256 % 256, 128))

    def identity(self) -> dict[str, Any]:
        """Return the identity that names of folders are made of."""
        return {"name": f"generated-{self.name}", "n": len(self)}


class Source(NamedTuple):
    """Splits of plain pictures."""

    size: Size
    n_sample: int

    def split(self, name: Split) -> Pictures:
        """Return its pictures."""
        return Pictures(name, self.size.n_val if name == "val" else self.n_sample, self.size.n_classes)


class MemoryStore(ActivationStore):
    """Activations `[n, d_in]` that are in no file; what is kept beside them goes to the folder."""

    def __init__(self, x: Tensor, folder: Path) -> None:
        self.x, self.layout, self.folder = x, Layout(len(x), 1, x.shape[1]), folder
        self.statistics = Moments.of(x).statistics()


class GeneratedData(ActivationDataModule):
    """Sparse sums of directions with noise, as the class token of the last block of a CLIP of random weights.

    The training split has only the sample that is timed, so that the covariance of the components is of fewer
    rows than a store has: of one as large it takes as many products as it takes to encode seven batches.
    """

    def __init__(self, size: Size, n_sample: int, folder: Path) -> None:
        hook_point, source = "visual.transformer.resblocks.0", Source(size, n_sample)
        clip = random_clip(size.d_in, folder)
        sizes = {"batch_size": size.batch_size, "eval_batch_size": 1024}
        super().__init__(source, clip, hook_point, store_dir=str(folder), **sizes)  # type: ignore[arg-type]
        self.size, self.n_sample, self.scratch = size, n_sample, folder

    def prepare_data(self) -> None:
        """Do nothing: no data are captured."""

    def setup(self, stage: str) -> None:
        """Generate, once."""
        if hasattr(self, "store"):
            return
        self.tail = make_tail(self.clip, self.hook)
        generate = partial(activations, self.size.d_in)
        self.store = MemoryStore(generate(self.n_sample), self.scratch / "train")
        self._val = MemoryStore(generate(self.size.n_val), self.scratch / "val")
        self.statistics = self.store.statistics
        assert self._val.x is not None
        with torch.no_grad():
            parts = [self.tail(part[:, None]) for part in self._val.x.split(1024)]
        self.judge_embeddings = torch.cat(parts)
        order = torch.randperm(self.size.n_val)
        chosen = order[torch.arange(self.size.n_classes) % len(order)]
        self.class_embeddings = self.judge_embeddings[
            chosen
        ]  # so that predictions are spread over the classes
        ids = order[: self.n_probe].sort().values
        self.probe = ProbeImages(ids, self._targets("val")[ids], self._val.x[ids, None], None)

    def train_dataloader(self) -> TrainLoader:
        """Return the sample."""
        return TrainLoader(self.store, self._targets("train"), self.batch_size, self.seed)

    def val_dataloader(self) -> EvalLoader:
        """Return the whole split."""
        return EvalLoader(self._val, self._targets("val"), self.judge_embeddings, self.eval_batch_size)


def random_clip(width: int, folder: Path) -> Clip:
    """Return a random CLIP whose vision tower is one block of the given width.

    Only the layer norm and the projection of this tower are ever run, and the text tower is run once.
    """
    config = {
        "embed_dim": min(512, width),
        "vision_cfg": {"layers": 1, "width": width, "head_width": 32, "patch_size": 32, "image_size": 64},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    (folder / "random.json").write_text(json.dumps(config))
    return load_clip(folder / "random.json")


def activations(d_in: int, n: int, active: int = 16) -> Tensor:
    """Return generated activations `[n, d_in]`.

    Each row is a sum of a few of `4 d_in` directions, of which some come often and others rarely, and noise.
    """
    directions = torch.nn.functional.normalize(torch.randn(4 * d_in, d_in), dim=1)
    frequency = torch.arange(1, 4 * d_in + 1).reciprocal()
    x = 0.1 * torch.randn(n, d_in)
    for rows in x.split(4096):
        chosen = torch.multinomial(frequency.expand(len(rows), -1), active)
        rows += torch.nn.functional.embedding_bag(
            chosen, directions, mode="sum", per_sample_weights=torch.rand(chosen.shape) * 4 + 1
        )
    return x


class Steps(Callback):
    """When each training step ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.ends = clock, list[float]()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Take the time."""
        self.ends.append(self.clock())


class Durations(Profiler):
    """The seconds in each action of a trainer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock, self.started = clock, dict[str, float]()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        """Take the time."""
        self.started[action_name] = self.clock()

    def stop(self, action_name: str) -> None:
        """Add the time since."""
        self.seconds[action_name] += self.clock() - self.started.pop(action_name)

    def of(self, callback: Callback) -> float:
        """Return the seconds in all hooks of a callback."""
        prefix = f"[Callback]{callback.state_key}."
        return sum(seconds for name, seconds in self.seconds.items() if name.startswith(prefix))


def measure(size: Size, with_callbacks: bool, n_steps: int, clock: str) -> dict[str, Any]:
    """Return the times of a few training steps and of validation passes.

    The first has everything, the next no sparse probes; these keep nothing, so that they are what `truth`
    takes less. The peak of memory in the result is that of the whole process.
    """
    warnings.simplefilter("ignore")
    seed_everything(0, verbose=False)
    now = CLOCKS[clock]
    with tempfile.TemporaryDirectory() as scratch:
        data = GeneratedData(size, (n_steps + 2) * size.batch_size, Path(scratch))
        sae = partial(TopK, d_sae=size.d_sae, k=size.k)
        module, steps = SAEModule(sae, 1e-3, warmup_steps=1, decay_fraction=0), Steps(now)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        make = partial(
            Trainer, accelerator="cpu", default_root_dir=scratch, enable_model_summary=False, **quiet
        )
        make(max_steps=n_steps + 2, limit_val_batches=0, callbacks=[steps]).fit(module, datamodule=data)
        callbacks = interpretability(size, scratch) if with_callbacks else {}
        first = validate(make, module, data, callbacks, now)
        truth = callbacks.get("truth")
        if isinstance(truth, Truth):
            truth.ks = []
        later = validate(make, module, data, callbacks, now)
    probes = first["truth"] - later["truth"] if isinstance(truth, Truth) else 0.0
    average = {name: later[name] * share(callback) for name, callback in callbacks.items()}
    return {
        "step": float(torch.tensor(steps.ends).double().diff()[1:].median()),
        "pass": later.pop(ALL) + probes,
        "once": {name: first[name] - later[name] for name in later if name != "truth"},
        "each": later | ({"truth": later["truth"] + probes} if "truth" in later else {}),
        "average": sum(average.values()) + (probes / truth.probe_every if isinstance(truth, Truth) else 0),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,  # kilobytes on Linux
    }


def share(callback: Callback) -> float:
    """Return the share of the passes that are a callback's turn; one behind the last pass alone has none."""
    every = getattr(callback, "every", 1)
    return 1 / every if every else 0.0


def validate(
    make: Callable[..., Trainer],
    module: SAEModule,
    data: GeneratedData,
    callbacks: dict[str, Callback],
    clock: Callable[[], float],
) -> dict[str, float]:
    """Return the seconds of a validation pass (`ALL`), and of each callback in it."""
    durations, start = Durations(clock), clock()
    trainer = make(callbacks=list(callbacks.values()), profiler=durations)
    trainer.validate(module, datamodule=data, verbose=False)
    whole = clock() - start
    return {ALL: whole} | {name: durations.of(callback) for name, callback in callbacks.items()}


def interpretability(size: Size, folder: str) -> dict[str, Callback]:
    """Return the callbacks of the configuration, all classes attributed."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["callbacks.attribution.over=all", f"run_dir={folder}"])
    config.labels.labels = [f"label {i}" for i in range(size.n_labels)]
    return {name: instantiate(node) for name, node in config.callbacks.items() if name not in OTHER}


def paper_epochs() -> int:
    """Return how many epochs the paper's setting trains, with a validation pass in each."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return int(compose("train", ["experiment=paper_cls"]).trainer.max_epochs)


def job(size: Size, with_callbacks: bool, n_steps: int, clock: str) -> dict[str, Any]:
    """Return `measure` in a new process."""
    request = json.dumps([size._asdict(), with_callbacks, n_steps, clock])
    command = [sys.executable, __file__, "--job", request]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show_size(console: Console, size: Size, n_steps: int, clock: str) -> None:
    """Print the main result."""
    bare, full = (job(size, with_callbacks, n_steps, clock) for with_callbacks in (False, True))
    n_epoch, epochs, once = size.n_train // size.batch_size, paper_epochs(), sum(full["once"].values())
    epoch = bare["step"] * n_epoch
    console.print(f"{size}, seconds by the clock of the {clock}")
    console.print(f"epoch: {epoch:.1f} s, scaled from {n_steps} steps of {bare['step']:.4f} s to {n_epoch}")
    console.print(
        f"validation pass: {bare['pass']:.2f} s without callbacks, {full['pass']:.2f} s with all at once, "
        f"{full['pass'] + once:.2f} s the first time"
    )
    table = Table("callback", "seconds", "of an epoch", "first pass, more")
    for name, seconds in sorted(full["each"].items(), key=lambda item: -item[1]):
        more = full["once"].get(name, 0.0)
        table.add_row(name, f"{seconds:.2f}", f"{seconds / epoch:.2%}", f"{more:.2f}")
    console.print(table)
    worst, average = ((seconds / epoch) for seconds in (full["pass"] - bare["pass"], full["average"]))
    console.print(f"added to an epoch: worst {worst:.1%}, average {average:.1%} (goal: at most {GOAL:.0%})")
    paid, total = once / epoch, average + once / epoch / epochs
    console.print(
        f"once a training: {once:.1f} s, {paid:.1%} of an epoch; "
        f"added to a training of {epochs} epochs: {total:.1%} (goal: at most {GOAL:.0%})"
    )
    dense = size.n_val * size.d_sae * 4 / 1e9
    console.print(
        f"peak memory: {bare['peak']:.2f} GB without, {full['peak']:.2f} GB with; "
        f"[images, d_sae] alone would be {dense:.2f} GB",
        markup=False,
    )


def show_growth(console: Console, base: Size, factors: Sequence[int], clock: str) -> None:
    """Print how the callbacks grow from a smaller base, one size at a time."""
    table = Table("growing", "size", "seconds", "peak GB", title=f"callbacks of a pass, growth from {base}")
    grown = [(name, field, factor) for name, field in GROWING.items() for factor in factors]
    for name, field, factor in [("base", "n_val", 1), *grown]:
        size = base._replace(**{field: getattr(base, field) * factor})
        found = job(size, True, 2, clock)
        seconds = sum(found["each"].values())
        table.add_row(name, str(getattr(size, field)), f"{seconds:.2f}", f"{found['peak']:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a small size, in about a minute")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--no-growth", action="store_true", help="only the main result")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="whose seconds are printed")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        size, with_callbacks, n_steps, clock = json.loads(options.job)
        print(json.dumps(measure(Size(**size), with_callbacks, n_steps, clock)))
        return
    console = Console(width=150)
    show_size(console, SHORT if options.short else Size(), options.steps, options.clock)
    if not options.no_growth:
        base, factors = (SHORT_BASE, (2,)) if options.short else (BASE, (2, 4))
        show_growth(console, base, factors, options.clock)


if __name__ == "__main__":
    main()
