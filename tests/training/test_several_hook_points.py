"""Autoencoders of several hook points in one training: each gets the very updates that it would get alone."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.ema import EMA
from lightning_sae.metrics import fvu, top_images
from lightning_sae.sae import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, TopK
from lightning_sae.training.module import SAEModule
from lightning_sae.types import Batch

N, N_VAL, D_SAE = 320, 90, 24
WIDTHS = {"blocks.0": 6, "blocks.1": 8, "": 8}  # the last is the run's own
VARIANTS: dict[str, Any] = {
    "topk": partial(TopK, k=2, k_aux=3),
    "batch_topk": partial(BatchTopK, k=2),
    "matryoshka": partial(MatryoshkaBatchTopK, k=2, prefixes=[0.5, 1.0]),
    "jump_relu": partial(JumpReLU, l0_weight=0.3, target_l0=2, bandwidth=1.0, threshold=1.0),
    "relu": partial(ReLU, l1_weight=0.1),
    "gated": partial(Gated, l1_weight=0.1),
    "layer_norm": partial(TopK, k=2, normalisation="layer_norm"),
}


def activations(name: str) -> Tensor:
    """Of tokens that hold a few of twelve things, each hook point with its own directions and scale."""
    known = torch.Generator().manual_seed(0)
    chosen = (torch.rand(N + N_VAL, 12, generator=known) < 0.12) * (1 + torch.rand(N + N_VAL, 1))
    place = [*WIDTHS].index(name)
    directions = torch.randn(12, WIDTHS[name], generator=torch.Generator().manual_seed(place + 1))
    return chosen @ directions * 10.0**place + 20


class Rows:
    """What a datamodule gives of one hook point."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.d_in = x[:N], x.shape[1]
        mean = self.x.mean(0)
        scale = float((self.x - mean).square().mean().rsqrt())
        self.statistics = SimpleNamespace(mean=mean, scale=scale)

    def sample(self, n: int) -> Tensor:
        return self.x[torch.randperm(N, generator=torch.Generator().manual_seed(5))[:n]]

    def train_batches(self) -> Iterator[Tensor]:
        return iter(self.x.split(100))


class Toy(LightningDataModule):
    """Some of the hook points; the last of them is the run's own."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.all = {name: activations(name) for name in WIDTHS}
        *earlier, own = names
        self.names = names
        self.earlier: Mapping[str, Rows] = {name: Rows(self.all[name]) for name in earlier}
        self.own = Rows(self.all[own])
        self.d_in, self.statistics = self.own.d_in, self.own.statistics
        self.sample, self.train_batches = self.own.sample, self.own.train_batches

    def batch(self, rows: Tensor, embeddings: Tensor | None = None) -> Batch:
        *earlier, x = (self.all[name][rows] for name in self.names)
        return Batch(x, rows, rows % 3, embeddings, tuple(earlier))

    def train_dataloader(self) -> DataLoader[Batch]:
        batches = [self.batch(rows) for rows in torch.arange(N).split(32)]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        batches = [
            self.batch(rows, torch.ones(len(rows), 2)) for rows in torch.arange(N, N + N_VAL).split(40)
        ]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def build(variant: str = "topk", **changes: Any) -> SAEModule:
    torch.manual_seed(3)
    sae = partial(VARIANTS[variant], d_sae=D_SAE, dead_after=100)
    arguments = {"lr": 1e-2, "warmup_steps": 3, "decay_fraction": 0.3, "gradient_clip": 0.05, "top_n": 5}
    return SAEModule(sae, **(arguments | changes))


def fit(module: SAEModule, toy: Toy, root: Path, *callbacks: Callback, **changes: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "default_root_dir": root,
        "callbacks": list(callbacks),
    }
    start = changes.pop("ckpt_path", None)
    trainer = Trainer(**(arguments | changes))
    trainer.fit(module, datamodule=toy, ckpt_path=start, weights_only=True)
    return trainer


def assert_alone(
    root: Path, make: Callable[[], SAEModule], *callbacks: Callable[[], Callback], **changes: Any
) -> tuple[Trainer, SAEModule]:
    """Train all together, and each alone: the same weights, counters, values and top images, to the bit."""
    together = make()
    trainer = fit(together, Toy(*WIDTHS), root, *(callback() for callback in callbacks), **changes)
    for layer in together.layers:
        alone = make()
        its = fit(alone, Toy(layer.name), root, *(callback() for callback in callbacks), **changes)
        for key, tensor in alone.sae.state_dict().items():
            assert torch.equal(layer.sae.state_dict()[key], tensor), (layer.name, key)
        assert torch.equal(layer.metrics.dead, alone.dead)
        for one, other in zip(layer.metrics.top_images.compute(), alone.top_images.compute(), strict=True):
            assert torch.equal(one, other)
        for key, value in its.callback_metrics.items():
            assert torch.equal(trainer.callback_metrics[key + layer.suffix], value), (layer.name, key)
    return trainer, together


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_is_trained_as_if_it_were_alone(tmp_path: Path, variant: str) -> None:
    trainer, module = assert_alone(tmp_path, partial(build, variant))
    steps = trainer.global_step
    assert steps == 30
    assert [int(layer.sae.steps) for layer in module.layers] == [steps] * 3
    assert len({len(layer.sae.W_dec[0]) for layer in module.layers}) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "data", "tied": False, "bias": "geometric_median"},
        {"gradient_clip": None},
        {"gradient_clip": 1e9},
    ],
)
def test_with_other_settings(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_alone(tmp_path, partial(build, **changes), max_epochs=1)


def test_with_an_average_of_the_weights_accumulated_gradients_and_mixed_precision(tmp_path: Path) -> None:
    average = partial(EMA, 0.5)
    assert_alone(tmp_path, build, average, max_epochs=1, accumulate_grad_batches=2, precision="bf16-mixed")


def test_values_are_the_formulas_on_each_hook_point(tmp_path: Path) -> None:
    module, toy = build(), Toy(*WIDTHS)
    logged = fit(module, toy, tmp_path, max_epochs=1).callback_metrics
    for layer in module.layers:
        x = toy.all[layer.name][N:]
        x_hat, latents = layer.sae(x)
        assert logged[f"val/fvu{layer.suffix}"].item() == pytest.approx(fvu(x, x_hat).item(), rel=1e-5)
        _, ids = top_images(latents, torch.arange(N, N + N_VAL), 5)
        assert torch.equal(layer.metrics.top_images.compute()[1], ids)
    assert module.layers[0].values_in(
        {"val/fvu": 1.0, "val/fvu/blocks.0": 2.0, "train/loss/blocks.0": 3.0}
    ) == {"val/fvu": 2.0}
    assert module.layers[-1].values_in({"val/fvu": 1.0, "val/fvu/blocks.0": 2.0}) == {"val/fvu": 1.0}


def test_a_resumed_training_has_the_same_bits(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=10, save_top_k=-1)
    whole, resumed = build(), build()
    fit(whole, Toy(*WIDTHS), tmp_path, keep)
    fit(resumed, Toy(*WIDTHS), tmp_path, ckpt_path=tmp_path / "step=20.ckpt")
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key
    loaded = SAEModule.load_from_checkpoint(tmp_path / "step=30.ckpt", weights_only=True)
    assert [layer.name for layer in loaded.layers] == [*WIDTHS]
    assert [layer.sae.d_in for layer in loaded.layers] == [*WIDTHS.values()]
    with pytest.raises(ValueError, match=r"earlier hook points take .* \{'blocks.0': 6, .* got \{\}"):
        Trainer(logger=False, accelerator="cpu").validate(loaded, datamodule=Toy(""), verbose=False)


def test_an_infinite_loss_names_its_hook_point(tmp_path: Path) -> None:
    toy = Toy(*WIDTHS)
    toy.all["blocks.1"][32:37, 0] = torch.inf
    message = "not finite at step 1 for blocks.1: 5 of 32 activations are NaN or infinite"
    with pytest.raises(ValueError, match=message):
        fit(build(), toy, tmp_path)
