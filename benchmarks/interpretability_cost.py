"""What the interpretability callbacks cost: `python benchmarks/interpretability_cost.py [--short]`.

At the size of ImageNet's class tokens (1.28 million images to train, 50,000 to validate, d_in 768, 30,000
latents, k 64, 1,000 classes and labels, all classes attributed) on a generated store. Printed are

- the time of an epoch of training: a sample of steps is timed and scaled to all steps of the epoch;
- the time of a validation pass without and with all interpretability callbacks of the configuration. The
  first pass also embeds texts and draws random image sets, which later ones keep. Some callbacks, and the
  sparse probes, work at each n-th pass only: `worst` is a pass with all of them, `average` over n passes;
- the peak of the memory of each process, and what [images, d_sae] would take;
- how time and memory grow with images, latents, labels and classes, from a smaller base.

Each measurement is a process of its own.
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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.profilers import SimpleProfiler
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
GOAL = 0.2  # of the time of an epoch


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
    """Activations `[n, d_in]` that are in no file."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.layout, self.folder = x, Layout(len(x), 1, x.shape[1]), Path()
        self.statistics = Moments.of(x).statistics()


class GeneratedData(ActivationDataModule):
    """Sparse sums of directions with noise, as the class token of the last block of a CLIP of random weights.

    The training split has only the sample that is timed.
    """

    def __init__(self, size: Size, n_sample: int, folder: Path) -> None:
        hook_point, source = "visual.transformer.resblocks.0", Source(size, n_sample)
        clip = random_clip(size.d_in, folder)
        sizes = {"batch_size": size.batch_size, "eval_batch_size": 1024}
        super().__init__(source, clip, hook_point, store_dir=str(folder), **sizes)  # type: ignore[arg-type]
        self.size, self.n_sample = size, n_sample

    def prepare_data(self) -> None:
        """Do nothing: no data are captured."""

    def setup(self, stage: str) -> None:
        """Generate, once."""
        if hasattr(self, "store"):
            return
        self.tail = make_tail(self.clip, self.hook)
        generate = partial(activations, self.size.d_in)
        self.store, self._val = (MemoryStore(generate(n)) for n in (self.n_sample, self.size.n_val))
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

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Take the time."""
        self.ends.append(time.perf_counter())


def measure(size: Size, with_callbacks: bool, n_steps: int) -> dict[str, Any]:
    """Return the times of a few training steps and of two validation passes.

    The peak of memory in the result is that of the whole process.
    """
    warnings.simplefilter("ignore")
    seed_everything(0, verbose=False)
    with tempfile.TemporaryDirectory() as scratch:
        data = GeneratedData(size, (n_steps + 2) * size.batch_size, Path(scratch))
        sae = partial(TopK, d_sae=size.d_sae, k=size.k)
        module, steps = SAEModule(sae, 1e-3, warmup_steps=1, decay_fraction=0), Steps()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        make = partial(
            Trainer, accelerator="cpu", default_root_dir=scratch, enable_model_summary=False, **quiet
        )
        make(max_steps=n_steps + 2, limit_val_batches=0, callbacks=[steps]).fit(module, datamodule=data)
        callbacks = interpretability(size, scratch) if with_callbacks else {}
        trainer = make(callbacks=list(callbacks.values()), profiler=SimpleProfiler())
        passes = []
        for _ in range(2):
            start = time.perf_counter()
            each = validate(trainer, module, data, callbacks)
            passes.append(time.perf_counter() - start)
        turns = {name: getattr(callbacks[name], "every", 1) for name in each}  # 0: behind the last pass alone
        average = {name: seconds / turns[name] if turns[name] else 0.0 for name, seconds in each.items()}
        if isinstance(truth := callbacks.get("truth"), Truth):
            truth.ks, share = [], 1 / truth.probe_every
            without_probes = validate(trainer, module, data, callbacks)["truth"]
            average["truth"] = without_probes + share * (each["truth"] - without_probes)
    durations = torch.tensor(steps.ends).double().diff()[1:]
    return {
        "step": float(durations.median()),
        "first": passes[0],
        "pass": passes[1],
        "each": each,
        "average": sum(average.values()),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,  # kilobytes on Linux
    }


def validate(
    trainer: Trainer, module: SAEModule, data: GeneratedData, callbacks: dict[str, Callback]
) -> dict[str, float]:
    """Return the seconds of each callback in a validation pass."""
    profiler = trainer.profiler  # type: ignore[attr-defined]
    profiler.recorded_durations = defaultdict(list)
    trainer.validate(module, datamodule=data, verbose=False)
    return {name: spent(profiler, callback) for name, callback in callbacks.items()}


def interpretability(size: Size, folder: str) -> dict[str, Callback]:
    """Return the callbacks of the configuration, all classes attributed."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", ["callbacks.attribution.over=all", f"run_dir={folder}"])
    config.labels.labels = [f"label {i}" for i in range(size.n_labels)]
    return {name: instantiate(node) for name, node in config.callbacks.items() if name not in OTHER}


def spent(profiler: SimpleProfiler, callback: Callback) -> float:
    """Return the seconds in all hooks of a callback."""
    prefix = f"[Callback]{callback.state_key}."
    return sum(sum(times) for name, times in profiler.recorded_durations.items() if name.startswith(prefix))


def job(size: Size, with_callbacks: bool, n_steps: int) -> dict[str, Any]:
    """Return `measure` in a new process."""
    request = json.dumps([size._asdict(), with_callbacks, n_steps])
    command = [sys.executable, __file__, "--job", request]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show_size(console: Console, size: Size, n_steps: int) -> None:
    """Print the main result."""
    bare, full = (job(size, with_callbacks, n_steps) for with_callbacks in (False, True))
    n_epoch = size.n_train // size.batch_size
    epoch = bare["step"] * n_epoch
    console.print(str(size))
    console.print(f"epoch: {epoch:.1f} s, scaled from {n_steps} steps of {bare['step']:.4f} s to {n_epoch}")
    console.print(
        f"validation pass: {bare['pass']:.2f} s without callbacks, {full['pass']:.2f} s with all at once, "
        f"{full['first']:.2f} s the first time"
    )
    table = Table("callback", "seconds", "of an epoch")
    for name, seconds in sorted(full["each"].items(), key=lambda item: -item[1]):
        table.add_row(name, f"{seconds:.2f}", f"{seconds / epoch:.2%}")
    console.print(table)
    worst, average = ((seconds / epoch) for seconds in (full["pass"] - bare["pass"], full["average"]))
    console.print(f"added to an epoch: worst {worst:.1%}, average {average:.1%} (goal: at most {GOAL:.0%})")
    dense = size.n_val * size.d_sae * 4 / 1e9
    console.print(
        f"peak memory: {bare['peak']:.2f} GB without, {full['peak']:.2f} GB with; "
        f"[images, d_sae] alone would be {dense:.2f} GB",
        markup=False,
    )


def show_growth(console: Console, base: Size, factors: Sequence[int]) -> None:
    """Print how the callbacks grow from a smaller base, one size at a time."""
    table = Table("growing", "size", "seconds", "peak GB", title=f"callbacks of a pass, growth from {base}")
    grown = [(name, field, factor) for name, field in GROWING.items() for factor in factors]
    for name, field, factor in [("base", "n_val", 1), *grown]:
        size = base._replace(**{field: getattr(base, field) * factor})
        found = job(size, True, 2)
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
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        size, with_callbacks, n_steps = json.loads(options.job)
        print(json.dumps(measure(Size(**size), with_callbacks, n_steps)))
        return
    console = Console(width=150)
    show_size(console, SHORT if options.short else Size(), options.steps)
    if not options.no_growth:
        show_growth(console, SHORT_BASE if options.short else BASE, (2,) if options.short else (2, 4))


if __name__ == "__main__":
    main()
