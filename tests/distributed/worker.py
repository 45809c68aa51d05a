"""One of several processes that train every variant on a small store; `test_training.py` starts them."""

import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from callbacks.ema import EMA
from lightning_sae.data import ActivationStore, TrainLoader
from lightning_sae.sae import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TopK
from lightning_sae.tracking.csv_logger import RunCSVLogger
from lightning_sae.training.module import SAEModule

STEPS, HALF, BATCH = 20, 10, 32
HALFWAY = "step=10.ckpt"
VARIANTS: dict[str, Any] = {
    "topk": partial(TopK, k=2, k_aux=3),
    "batch_topk": partial(BatchTopK, k=2),
    "matryoshka": partial(MatryoshkaBatchTopK, k=2, prefixes=[0.5, 1.0]),
    "jump_relu": partial(JumpReLU, l0_weight=0.3, target_l0=2, bandwidth=1.0, threshold=1.0),
    "relu": partial(ReLU, l1_weight=0.1),
    "gated": partial(Gated, l1_weight=0.1),
    "several": partial(TopK, k=2, k_aux=3),  # hook points, the first of another width
}


class Earlier:
    """What a datamodule gives of an earlier hook point."""

    def __init__(self, folder: Path) -> None:
        self.store = ActivationStore(folder)
        self.statistics, self.d_in = self.store.statistics, self.store.layout.d_in

    def train_batches(self) -> Iterator[Tensor]:
        return iter(self.store.rows(0, len(self.store)).split(50))


class Rows(LightningDataModule):
    """The store, `BATCH` rows per step of all processes together."""

    def __init__(self, folder: Path, several: bool) -> None:
        super().__init__()
        self.store = ActivationStore(folder)
        self.statistics, self.d_in = self.store.statistics, self.store.layout.d_in
        self.earlier = {"block.1": Earlier(folder.with_name("earlier"))} if several else {}

    def train_dataloader(self) -> TrainLoader:
        trainer, targets = self.trainer, torch.zeros(self.store.layout.n_images, dtype=torch.int64)
        assert trainer is not None
        batch_size = BATCH // trainer.world_size
        ranks, earlier = (trainer.global_rank, trainer.world_size), [e.store for e in self.earlier.values()]
        return TrainLoader(self.store, targets, batch_size, 0, *ranks, earlier=earlier)

    def train_batches(self) -> Iterator[Tensor]:
        return iter(self.store.rows(0, len(self.store)).split(50))


def train(variant: str, out: Path, precision: Any, steps: int, start: Path | None = None) -> None:
    """Fits, TopK with an average of weights; leaves checkpoint `HALFWAY`, final state and curve."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    sae = partial(VARIANTS[variant], d_sae=24, dead_after=40)
    module = SAEModule(sae, lr=1e-2, warmup_steps=3, decay_fraction=0.0, gradient_clip=0.05)
    keep = ModelCheckpoint(out, filename="{step}", every_n_train_steps=HALF, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        devices=int(sys.argv[2]),
        strategy="ddp" if sys.argv[2] != "1" else "auto",
        max_steps=steps,
        max_epochs=-1,
        precision=precision,
        callbacks=[keep, *([EMA(0.5)] if variant == "topk" else [])],
        logger=RunCSVLogger(str(out)),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    data = Rows(out.parents[1] / "store", variant == "several")
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    assert trainer.global_step == steps
    if trainer.is_global_zero:
        torch.save(module.state_dict() | {"dead": module.dead}, out / "final.pt")


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, n = Path(sys.argv[1]), sys.argv[2]
    mine, alone = folder / n, folder / "1"
    for variant in VARIANTS:
        train(variant, mine / f"{variant}-whole", "64-true", STEPS)
        if n == "1":
            train(variant, alone / f"{variant}-single", "32-true", HALF)
        else:
            begun = {"resumed": mine, "taken": alone}  # by as many processes, and by one
            for name, folder_of in begun.items():
                start = folder_of / f"{variant}-whole" / HALFWAY
                train(variant, mine / f"{variant}-{name}", "64-true", STEPS, start)
        start = alone / f"{variant}-single" / HALFWAY
        train(variant, mine / f"{variant}-step", "32-true", HALF + 1, start)


if __name__ == "__main__":
    main()
