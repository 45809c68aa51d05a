"""What the embedded default shows, against the world's truth: `python benchmarks/first_light.py`.

Trains the default SAE on the biased and the balanced CLIP for each seed, by the user's own command.
Prints the reconstruction, which factor values have a latent (chosen on val, measured on test),
whether its label names the value, and whether each planted background shows among the latents that
drive its class.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import pandas as pd
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lightning_sae.data import ActivationDataModule
from lightning_sae.data.images.image_set import Split
from lightning_sae.metrics import sparse_auroc
from lightning_sae.sae import SparseAutoencoder, load_sae
from lightning_sae.types import SparseLatents
from lightning_sae.world import label_of, plants

ROOT = Path(__file__).resolve().parents[1]
FACTORS = ("class", "colour", "background", "word")
DETECTED = 0.95  # AUROC on test above which a latent detects a factor value


class Detection(NamedTuple):
    """One factor value and its best latent."""

    factor: str
    value: str
    auroc: float
    label: str

    @property
    def seen(self) -> bool:
        """The latent detects the value."""
        return self.auroc >= DETECTED

    @property
    def named(self) -> bool:
        """The latent detects the value, and its label says so."""
        return self.seen and self.label == self.value


def train(run: Path, seed: int, clip: str, overrides: list[str]) -> float:
    """Run the user's command; seconds it took."""
    command = [sys.executable, "train.py", f"seed={seed}", f"clip={clip}", f"hydra.run.dir={run}"]
    command += ["resume=false", *overrides]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def curves(run: Path) -> "pd.Series[Any]":
    """Return the last value of every key in `metrics.csv`."""
    return pd.read_csv(run / "metrics.csv").ffill().iloc[-1]


def latents_of(data: ActivationDataModule, sae: SparseAutoencoder, split: Split) -> SparseLatents:
    """Return the latents of all images of a split, in image order, on the CPU."""
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    parts = [sae.encode(batch.x).to("cpu") for batch in loader]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), *(p.offsets.diff() for p in parts)]).cumsum(0)
    values, indices = (torch.cat([getattr(p, name) for p in parts]) for name in ("values", "indices"))
    return SparseLatents(values, indices, offsets, sae.d_sae)


@torch.no_grad()
def detections(run: Path) -> list[Detection]:
    """Return the best latent of each factor value by AUROC on val, with its AUROC on test and its label."""
    data = hydra.utils.instantiate(OmegaConf.load(run / ".hydra" / "config.yaml").data)
    data.prepare_data()
    data.setup("test")
    sae = load_sae(run / "sae", data.clip.identity()).to(data.clip.device)
    val, test = (latents_of(data, sae, split) for split in ("val", "test"))
    labels = pd.read_csv(run / "latents.csv", index_col="latent", keep_default_na=False)["label"]
    found = []
    for factor in FACTORS:
        chosen, truth = (data.images(split).factors[factor][1] for split in ("val", "test"))
        for i, value in enumerate(label_of(factor)):
            best = int(sparse_auroc(val, chosen == i).argmax())
            auroc = float(sparse_auroc(test, truth == i)[best])
            found.append(Detection(factor, value, auroc, labels.get(best, "(dead)")))
    return found


def planted(run: Path) -> dict[str, tuple[bool, bool]]:
    """Return for each spurious class whether its top latents name and flag the planted background.

    The first value says whether one of the class's top five latents is labelled with the background, the
    second whether such a latent is flagged as well.
    """
    attribution, reliance = (pd.read_csv(run / f"{name}.csv") for name in ("attribution", "reliance"))
    found = {}
    for plant in plants("spurious"):
        top = attribution[attribution["class"] == plant.thing].nlargest(5, "attribution")
        named = top[top["label"] == f"{plant.factor} background"]["latent"]
        flagged = reliance[reliance["class"] == plant.thing]["latent"]
        found[plant.thing] = (len(named) > 0, bool(named.isin(flagged).any()))
    return found


def shares(found: list[Detection], factor: str) -> str:
    """Return the detected of all values, and named right of the detected ones."""
    own = [d for d in found if d.factor == factor]
    seen = sum(d.seen for d in own)
    return f"{seen}/{len(own)}, {sum(d.named for d in own)}/{seen}"


def report(console: Console, run: Path, seconds: float) -> dict[str, str]:
    """Return one row of the table; prints what is missing."""
    last, found, cases = curves(run), detections(run), planted(run)
    for d in found:
        if not d.named:
            console.print(f"  {run.name}: {d.value}: best latent has AUROC {d.auroc:.3f}, label {d.label!r}")
    return {
        "seconds": f"{seconds:.0f}",
        "val/fvu": f"{last['val/fvu']:.4f}",
        "val/l0": f"{last['val/l0']:.1f}",
        "dead": f"{last['train/dead_fraction']:.3f}",
        "class, spliced": f"{last['zero_shot/original']:.3f}, {last['zero_shot/spliced']:.3f}",
        "colour, spliced": f"{last['zero_shot/original_colour']:.3f}, {last['zero_shot/spliced_colour']:.3f}",
        **{f"{factor}, detected and named": shares(found, factor) for factor in FACTORS},
        "planted background in top 5": ", ".join(f"{k} {'yes' if v[0] else 'no'}" for k, v in cases.items()),
        "and flagged": ", ".join(f"{k} {'yes' if v[1] else 'no'}" for k, v in cases.items()),
        "unexpected share": f"{last['attribution/unexpected_share']:.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--out", type=Path, default=ROOT / "outputs" / "first_light", help="folder of the runs"
    )
    parser.add_argument(
        "--reuse", action="store_true", help="judge the runs that are there, train what is missing"
    )
    parser.add_argument("overrides", nargs="*", help="further arguments of train.py")
    options = parser.parse_args()
    console, rows = Console(width=140), {}
    jobs = [(clip, seed) for seed in options.seeds for clip in ("world_biased", "world_balanced")]
    for clip, seed in track(jobs, "training and judging", console=console):
        run = options.out.resolve() / f"{clip}-seed{seed}"
        there = options.reuse and (run / "sae").exists()
        seconds = float("nan") if there else train(run, seed, clip, options.overrides)
        rows[run.name] = report(console, run, seconds)
    table = Table("", *rows)
    for key in next(iter(rows.values())):
        table.add_row(key, *(row[key] for row in rows.values()))
    console.print(table)
    console.print(f"runs: {options.out}")


if __name__ == "__main__":
    main()
