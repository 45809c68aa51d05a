"""How many latents are wasted, with AuxK and without: `python benchmarks/dead_latents.py`.

The class token after the first block of the embedded CLIP, 16 latents for each dimension: there most latents
die without AuxK. Dead is a latent that no activation of the whole train store fires, counted as training
goes on. Prints the last count and the FVU on val of each variant; the curves are a picture.
"""

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from interleaved import machine
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.progress import track
from rich.table import Table

CONF = Path(__file__).resolve().parents[1] / "conf"
HOOK_POINT = "visual.transformer.resblocks.0"
VARIANTS = ("topk", "batch_topk", "matryoshka")
AUXK = {"without AuxK": ["+sae.aux_weight=0"], "with AuxK": []}
SHORT = ["data.n_train=512", "data.n_val=160", "data.n_probe=24", "data.batch_size=128"]

Curve = dict[int, float]  # optimiser steps -> share of dead latents


class DeadCurve(Callback):
    """Counts the latents that the train store never fires, every so many steps."""

    def __init__(self, every: int) -> None:
        self.every, self.curve = every, Curve()

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure the share of dead latents after every `every`-th optimiser step."""
        if trainer.global_step % self.every == 0:
            sae: Any = pl_module.sae
            fired = torch.zeros(sae.d_sae, dtype=torch.bool)
            for x in trainer.datamodule.train_batches():  # type: ignore[attr-defined]
                fired |= sae.encode(x.to(pl_module.device)).fired().cpu()
            self.curve[trainer.global_step] = 1 - float(fired.float().mean())


def train(variant: str, options: list[str], steps: int) -> tuple[Curve, dict[str, float]]:
    """Return the curve of one training, and its last validation."""
    overrides = [f"sae={variant}", f"hook_point={HOOK_POINT}", "run_dir=.", "trainer.accelerator=cpu"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[*overrides, *options])
    seed_everything(config.seed, verbose=False)
    curve = DeadCurve(max(1, steps // 10))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, callbacks=[curve], **quiet
    )
    data, module = instantiate(config.data), instantiate(config.module)
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    return curve.curve, {key: float(value) for key, value in trainer.callback_metrics.items()}


def draw(path: Path, curves: dict[tuple[str, str], Curve]) -> None:
    """Draw one panel for each variant."""
    figure, panels = plt.subplots(1, len(VARIANTS), figsize=(9, 3), sharey=True, layout="constrained")
    for (variant, auxk), curve in curves.items():
        axes = panels[VARIANTS.index(variant)]
        axes.plot([*curve], [100 * share for share in curve.values()], marker="o", markersize=3, label=auxk)
        axes.set(title=variant, xlabel="optimiser steps", ylim=(0, 100))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("dead latents, %")
    panels[-1].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--picture", type=Path, help="where a picture of the curves goes")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    size = [*SHORT, "sae.d_sae=64", "sae.k=2"] if options.short else ["sae.d_sae=2048", "sae.k=5"]
    steps = 10 if options.short else options.steps
    console, curves = Console(width=110), dict[tuple[str, str], Curve]()
    console.print(f"{machine()}; {HOOK_POINT}, cls, {', '.join(size[-2:])}, {steps} steps")
    table = Table("", "", "dead, whole train store", "FVU", "L0")
    jobs = [(variant, auxk) for variant in VARIANTS for auxk in AUXK]
    for variant, auxk in track(jobs, "training", console=console):
        curves[variant, auxk], last = train(variant, [*AUXK[auxk], *size], steps)
        dead = curves[variant, auxk][steps]
        table.add_row(variant, auxk, f"{dead:.1%}", f"{last['val/fvu']:.4f}", f"{last['val/l0']:.1f}")
    console.print(table)
    if options.picture:
        draw(options.picture, curves)
        console.print(f"curves in {options.picture}")


if __name__ == "__main__":
    main()
