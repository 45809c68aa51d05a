"""How the costs grow: `python benchmarks/scaling.py`.

The training step against `d_sae`, `k` and the batch; alignment with all labels against latents, images and
labels. Each column doubles one size of a base; the sizes of a row run in turn. A cost that is proportional to
the size doubles from column to column. `interpretability_cost.py` has the same for whole validation passes.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from interleaved import interleave, machine
from rich.console import Console
from rich.table import Table
from step import our_step
from torch.nn.functional import normalize

from lightning_sae.concepts.alignment import best_labels, concept_vectors

FACTORS = (1, 2, 4)


class Size(NamedTuple):
    """The sizes that costs may depend on."""

    d_in: int = 512
    d_sae: int = 4096
    k: int = 16
    batch: int = 512
    images: int = 20_000
    labels: int = 2000
    top_n: int = 20


SHORT = Size(d_in=16, d_sae=64, k=2, batch=32, images=100, labels=20, top_n=5)


def train_step(size: Size) -> Callable[[], Any]:
    """Return one step, with AuxK on and no dead latent."""
    step, x = our_step(size.d_in, size.d_sae, size.k, "exact"), torch.randn(size.batch, size.d_in)
    return lambda: step(x)


def align(size: Size) -> Callable[[], Any]:
    """Return the vectors of all latents from their top images, and their best labels."""
    embeddings = normalize(torch.randn(size.images, size.d_in), dim=1)
    texts = normalize(torch.randn(size.labels, size.d_in), dim=1)
    top_ids = torch.randint(size.images, (size.d_sae, size.top_n))
    return lambda: best_labels(concept_vectors(top_ids, embeddings), texts, texts[0])


COSTS: dict[str, tuple[Callable[[Size], Callable[[], Any]], str]] = {
    "step, d_sae": (train_step, "d_sae"),
    "step, k": (train_step, "k"),
    "step, batch": (train_step, "batch"),
    "alignment, latents": (align, "d_sae"),
    "alignment, images": (align, "images"),
    "alignment, labels": (align, "labels"),
}


def measure(base: Size, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each cost at each factor."""
    found = {}
    for name, (make, field) in COSTS.items():
        sizes = [base._replace(**{field: factor * getattr(base, field)}) for factor in FACTORS]
        ways = {str(factor): make(size) for factor, size in zip(FACTORS, sizes, strict=True)}
        interleave(ways, 1)  # the first time makes the state of the optimiser
        found[name] = [*interleave(ways, repeats).values()]
    return found


def save_lines(path: Path, seconds: dict[str, list[float]]) -> None:
    """Draw time over size, both relative to the base."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, each in seconds.items():
        axes.plot(FACTORS, [s / each[0] for s in each], marker="o", label=name)
    axes.plot(FACTORS, FACTORS, color="gray", linestyle=":", label="proportional")
    axes.set(xlabel="size / base", ylabel="time / base", xscale="log", yscale="log")
    axes.set_xticks(FACTORS, map(str, FACTORS))
    axes.set_yticks(FACTORS, map(str, FACTORS))
    axes.minorticks_off()
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--picture", type=Path, help="where a picture of the growth goes")
    options = parser.parse_args()
    torch.manual_seed(0)
    base, console = SHORT if options.short else Size(), Console(width=110)
    console.print(f"{machine()}; base: {', '.join(f'{k} {v}' for k, v in base._asdict().items())}")
    seconds = measure(base, 1 if options.short else 7)
    table = Table("", *(f"x {factor}, ms" for factor in FACTORS), "growth per doubling")
    for name, each in seconds.items():
        growth = (each[-1] / each[0]) ** 0.5
        table.add_row(name, *(f"{1e3 * s:.1f}" for s in each), f"{growth:.2f}")
    console.print(table)
    if options.picture:
        save_lines(options.picture, seconds)


if __name__ == "__main__":
    main()
