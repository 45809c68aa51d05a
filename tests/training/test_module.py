"""SAEModule on tensors in memory, whose planted directions a TopK autoencoder can find."""

import copy
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.ema import EMA
from lightning_sae.metrics import cosine, density, fvu, l0, top_images
from lightning_sae.sae import TopK
from lightning_sae.training.module import SAEModule
from lightning_sae.training.schedule import lr_factor
from lightning_sae.types import Batch, SparseLatents, ValidationOutput

D_IN, D_SAE, K, N, N_VAL = 8, 24, 2, 320, 90


class Statistics(NamedTuple):
    mean: Tensor
    scale: float


class Rows:
    """Shuffled batches as one endless stream, whose position a checkpoint keeps."""

    def __init__(self, x: Tensor, batch_size: int) -> None:
        self.x, self.batch_size, self.position = x, batch_size, 0

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(len(self)):
            epoch, start = divmod(self.position, len(self))
            order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(epoch))
            rows = order[start * self.batch_size :][: self.batch_size]
            self.position += 1
            yield Batch(self.x[rows], rows, torch.zeros_like(rows))

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Toy(LightningDataModule):
    d_in = D_IN

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(12, D_IN, generator=generator)
        chosen = torch.rand(N + N_VAL, 12, generator=generator) < 0.12
        x = (chosen * (0.5 + torch.rand(N + N_VAL, 12, generator=generator))) @ directions + 20
        self.x, self.x_val, self.batch_size = x[:N], x[N:], batch_size
        centred = self.x - self.x.mean(0)
        self.statistics = Statistics(self.x.mean(0), float(centred.square().mean().rsqrt()))

    def train_dataloader(self) -> Rows:
        return Rows(self.x, self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        ids = torch.arange(N_VAL)
        whole = Batch(self.x_val, ids, ids % 3, torch.ones(N_VAL, 2))
        batches = [Batch(*(part[i : i + 40] for part in whole)) for i in range(0, N_VAL, 40)]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    def train_batches(self) -> Iterator[Tensor]:
        return iter(self.x.split(100))

    def sample(self, n: int) -> Tensor:
        return self.x[torch.randperm(len(self.x), generator=torch.Generator().manual_seed(5))[:n]]


class Outputs(Callback):
    """Keeps what validation hands to callbacks."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept: list[ValidationOutput] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.kept.append(outputs)


def make_module(**changes: Any) -> SAEModule:
    torch.manual_seed(3)
    sae = partial(TopK, d_sae=D_SAE, k=K, k_aux=4, dead_after=100)
    arguments = {"lr": 1e-2, "warmup_steps": 3, "decay_fraction": 0.3, "gradient_clip": 1.0, "top_n": 5}
    return SAEModule(sae, **(arguments | changes))


def make_trainer(root: Path, callbacks: tuple[Callback, ...] = (), **changes: Any) -> Trainer:
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
    return Trainer(**(arguments | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, SAEModule, Outputs, Path]:
    """One fit with checkpoints after every third step and at its end."""
    root = tmp_path_factory.mktemp("run")
    outputs = Outputs()
    keep = ModelCheckpoint(root, filename="{step}", every_n_train_steps=3, save_top_k=-1, save_last=True)
    logger = CSVLogger(root)
    trainer = make_trainer(root, (outputs, keep), logger=logger)
    module = make_module()
    trainer.fit(module, datamodule=Toy())
    return trainer, module, outputs, root


def test_training_learns(run: tuple[Trainer, SAEModule, Outputs, Path]) -> None:
    untrained = make_trainer(run[3]).validate(make_module(), datamodule=Toy(), verbose=False)[0]
    assert run[0].callback_metrics["val/fvu"] < 0.7 * untrained["val/fvu"]


def test_logged_metrics_are_the_formulas_on_the_whole_split(
    run: tuple[Trainer, SAEModule, Outputs, Path],
) -> None:
    trainer, module, outputs, _ = run
    x = torch.cat([output.x for output in outputs.kept])
    x_hat = torch.cat([output.x_hat for output in outputs.kept])
    latents = SparseLatents.from_dense(torch.cat([output.latents.to_dense() for output in outputs.kept]))
    assert len(x) == N_VAL  # nothing of the sanity check
    torch.testing.assert_close(latents.to_dense() @ module.sae.W_dec + module.sae.bias(), x_hat)
    logged = trainer.callback_metrics
    assert logged["val/fvu"].item() == pytest.approx(fvu(x, x_hat).item(), rel=1e-5)
    assert logged["val/cosine"].item() == pytest.approx(cosine(x, x_hat).item(), rel=1e-5)
    assert logged["val/l0"].item() == pytest.approx(l0(latents).item(), rel=1e-5)
    assert logged["val/dead_fraction"] == module.sae.dead.float().mean()
    torch.testing.assert_close(module.density, density(latents))
    assert logged["val/density_p50"].item() == pytest.approx(
        module.density[module.density > 0].quantile(0.5).item(), rel=1e-5
    )
    ids = torch.cat([output.image_ids for output in outputs.kept])
    for got, want in zip(module.top_images.compute(), top_images(latents, ids, 5), strict=True):
        assert torch.equal(got, want)


def test_dead_is_counted_on_the_whole_train_store(run: tuple[Trainer, SAEModule, Outputs, Path]) -> None:
    _, module, _, root = run
    fired = module.sae.encode(Toy().x).to_dense().sum(0) > 0
    assert module.dead is not None
    assert torch.equal(module.dead, ~fired)
    table = (root / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "train/dead_fraction" in table.splitlines()[0]


def test_decoder_rows_have_unit_norm_in_every_checkpoint(
    run: tuple[Trainer, SAEModule, Outputs, Path],
) -> None:
    for path in run[3].glob("*.ckpt"):
        rows = torch.load(path, weights_only=True)["state_dict"]["sae.W_dec"]
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(D_SAE))


@pytest.mark.parametrize("name", ["step=3", "step=15", "last"])
def test_resumed_training_equals_the_uninterrupted_run(
    run: tuple[Trainer, SAEModule, Outputs, Path], tmp_path: Path, name: str
) -> None:
    trainer, module, _, root = run
    resumed = make_module()
    again = make_trainer(tmp_path)
    again.fit(resumed, datamodule=Toy(), ckpt_path=root / f"{name}.ckpt", weights_only=True)
    assert again.global_step == trainer.global_step == 30
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[key]), key


def test_checkpoint_alone_rebuilds_the_module(run: tuple[Trainer, SAEModule, Outputs, Path]) -> None:
    _, module, outputs, root = run
    loaded = SAEModule.load_from_checkpoint(root / "last.ckpt", weights_only=True)
    x_hat, _ = loaded.sae(outputs.kept[0].x)
    assert torch.equal(x_hat, module.sae(outputs.kept[0].x)[0])
    assert loaded.sae.config() == module.sae.config()
    metrics = make_trainer(root).validate(loaded, datamodule=Toy(), verbose=False)[0]
    assert metrics["val/fvu"] == pytest.approx(run[0].callback_metrics["val/fvu"].item(), rel=1e-6)


def test_validate_twice_gives_the_same(tmp_path: Path) -> None:
    module, trainer = make_module(), make_trainer(tmp_path)
    first = trainer.validate(module, datamodule=Toy(), verbose=False)
    assert trainer.validate(module, datamodule=Toy(), verbose=False) == first


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    # no latent is dead, so the loss is a mean over tokens; float64, because Adam amplifies rounding
    states = []
    for batch_size, accumulate in ((16, 2), (32, 1)):
        module = make_module()
        trainer = make_trainer(
            tmp_path, max_steps=6, max_epochs=-1, accumulate_grad_batches=accumulate, precision="64-true"
        )
        trainer.fit(module, datamodule=Toy(batch_size))
        assert trainer.global_step == 6
        states.append(module.sae.state_dict())
    for key in ("encoder", "b_enc", "W_dec", "b_dec"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=1e-7, atol=1e-9)


class Start(Callback):
    """Keeps the autoencoder as training starts."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sae: TopK = copy.deepcopy(pl_module.sae)  # type: ignore[arg-type]


def naive_step(sae: TopK, optimiser: torch.optim.Optimizer, x: Tensor, largest: float) -> None:
    """Dense, by plain autograd: what kernels, module and fused Adam do together."""
    x = (x.double() - sae.mean) * sae.scale
    values, indices = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).topk(K)
    latents = torch.zeros(len(x), D_SAE).double().scatter(1, indices, values.relu())
    optimiser.zero_grad()
    (x - latents @ sae.W_dec - sae.b_dec).square().mean().backward()
    sae.W_dec.grad -= (sae.W_dec.grad * sae.W_dec).sum(1, keepdim=True).detach() * sae.W_dec.detach()
    torch.nn.utils.clip_grad_norm_(sae.parameters(), largest)
    optimiser.step()
    with torch.no_grad():
        sae.W_dec /= sae.W_dec.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("precision", "tolerance"), [("64-true", 1e-9), ("32-true", 1e-4)])
def test_forty_steps_equal_a_naive_loop(tmp_path: Path, precision: str, tolerance: float) -> None:
    toy, start = Toy(), Start()
    module = make_module(warmup_steps=0, decay_fraction=0.0, gradient_clip=0.05, betas=(0.9, 0.999))
    module.hparams["sae"]["dead_after"] = 10**9
    changes = {"max_epochs": -1, "max_steps": 40, "precision": precision}
    make_trainer(tmp_path, (start,), **changes).fit(module, datamodule=toy)
    start.sae.double()
    optimiser = torch.optim.Adam(start.sae.parameters(), lr=1e-2)
    rows = toy.train_dataloader()
    for batch in islice(chain.from_iterable(repeat(rows)), 40):
        naive_step(start.sae, optimiser, batch.x, 0.05)
    trained = dict(module.sae.double().named_parameters())
    for name, want in start.sae.named_parameters():
        torch.testing.assert_close(trained[name], want, rtol=tolerance, atol=tolerance)


def test_mixed_precision(tmp_path: Path) -> None:
    module, trainer = make_module(), make_trainer(tmp_path, precision="bf16-mixed")
    trainer.fit(module, datamodule=Toy())
    assert trainer.callback_metrics["val/fvu"] < 0.6
    assert module.sae.W_dec.dtype == torch.float32


def test_learning_rate_schedules() -> None:
    cosine = [lr_factor(step, 8, 2, 0.5, "cosine") for step in range(9)]
    half = 0.5 + 0.5 * 2**-0.5
    assert cosine == pytest.approx([0.5, 1, 1, 1, 1, half, 0.5, 1 - half, 0])
    linear = [lr_factor(step, 8, 2, 0.5) for step in range(9)]
    assert linear == pytest.approx([0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    assert lr_factor(1000, float("inf"), 2, 0.5, "cosine") == 1


def test_learning_rate_falls_to_the_end(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.fit(make_module(), datamodule=Toy())
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr() == [0.0]


def test_a_layer_norm_is_marked(tmp_path: Path) -> None:
    module = make_module()
    module.hparams["sae"]["normalisation"] = "layer_norm"
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=Toy())
    assert trainer.callback_metrics["val/fvu_layer_norm"] == trainer.callback_metrics["val/fvu"]
    assert not module.sae.mean.any()


@pytest.mark.parametrize("bias", ["mean", "geometric_median", "zero"])
@pytest.mark.parametrize("rows", ["random", "data"])
@pytest.mark.parametrize("tied", [True, False])
def test_where_training_starts(tmp_path: Path, bias: str, rows: str, tied: bool) -> None:
    start, toy = Start(), Toy()
    module = make_module(bias=bias, rows=rows, tied=tied)
    make_trainer(tmp_path, (start,), max_epochs=1).fit(module, datamodule=toy)
    sae, x = start.sae, toy.sample(320)
    distances = (x - sae.bias()).norm(dim=1)
    if bias == "geometric_median":  # no other point near by has a smaller sum of distances
        for direction in torch.eye(D_IN):
            assert (x - sae.bias() - 0.1 * direction).norm(dim=1).sum() > distances.sum()
    else:
        torch.testing.assert_close(
            sae.bias(), toy.x.mean(0) if bias == "mean" else torch.zeros(D_IN), rtol=0, atol=1e-5
        )
    cosines = torch.nn.functional.normalize(x - sae.bias(), dim=1) @ sae.W_dec.T
    assert (rows == "data") == bool((cosines.max(0).values > 0.9999).all())
    directions = torch.nn.functional.normalize(sae.encoder, dim=1)
    assert tied == torch.allclose(directions, sae.W_dec, atol=1e-6)
    if rows == "data":  # no other gain of the encoder has a smaller error
        errors = []
        for gain in (0.9, 1.0, 1.1):
            scaled = copy.deepcopy(sae)
            scaled.encoder.data *= gain
            errors.append(float((x - scaled(x)[0]).square().sum()))
        assert errors[1] == min(errors) or float(sae.encoder.norm(dim=1).max()) > 0.999
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(D_SAE))


VARIANTS: dict[str, dict[str, Any]] = {
    "TopK": {"k": K, "dead_after": 100},
    "MatryoshkaBatchTopK": {"k": K, "prefixes": [0.5, 1.0], "dead_after": 100},
    "Gated": {"l1_weight": 1e-3},
    "JumpReLU": {"l0_weight": 0.3, "target_l0": K},
    "ReLU": {"l1_weight": 1e-3},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_frozen_decoder_stays_as_it_starts_bit_for_bit(tmp_path: Path, variant: str) -> None:
    sae = {"variant": variant, "d_sae": D_SAE, **VARIANTS[variant]}
    start, keep = Start(), ModelCheckpoint(tmp_path, save_last=True, save_top_k=0)
    average = EMA(decay=0.5)
    trainer = make_trainer(tmp_path, (start, keep, average), max_epochs=1)
    torch.manual_seed(3)
    module = SAEModule(sae, lr=1e-2, warmup_steps=3, decay_fraction=0.0, frozen_decoder=True)
    trainer.fit(module, datamodule=Toy())
    assert torch.equal(module.sae.W_dec, start.sae.W_dec)
    for name in ("encoder", "b_dec"):
        assert not torch.equal(getattr(module.sae, name), getattr(start.sae, name))
    assert torch.equal(module.sae.fold().W_dec, start.sae.W_dec)


def test_a_frozen_decoder_is_resumed_frozen(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    whole, resumed = (make_module(frozen_decoder=True) for _ in range(2))
    make_trainer(tmp_path, (keep,), max_epochs=1).fit(whole, datamodule=Toy())
    path = tmp_path / "step=3.ckpt"
    again = make_trainer(tmp_path, max_epochs=1)
    again.fit(resumed, datamodule=Toy(), ckpt_path=path, weights_only=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    alone = SAEModule.load_from_checkpoint(path, weights_only=True)
    assert not alone.sae.W_dec.requires_grad
    assert alone.sae.encoder.requires_grad
    with pytest.raises(ValueError, match=r"other settings: module\.frozen_decoder"):
        make_trainer(tmp_path).fit(make_module(), datamodule=Toy(), ckpt_path=path, weights_only=True)


def test_nan_activations(tmp_path: Path) -> None:
    data = Toy()
    data.x[5, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 32 activations are NaN"):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)
    data.x_val[7] = float("nan")
    with pytest.raises(ValueError, match="constant or hold NaN"):
        make_trainer(tmp_path).validate(make_module(), datamodule=data)


@pytest.mark.parametrize("every", [3, 50])
def test_the_first_infinite_step_is_named_when_a_row_is_logged_or_the_epoch_is_over(
    tmp_path: Path, every: int
) -> None:
    data = Toy()
    data.x[32:37, 0] = torch.inf
    ids = torch.zeros(32, dtype=torch.int64)
    in_order: list[Any] = [Batch(x, ids, ids) for x in data.x[:256].split(32)]
    data.train_dataloader = lambda: DataLoader(in_order, batch_size=None)  # type: ignore[method-assign,assignment]
    with pytest.raises(ValueError, match="not finite at step 1: 5 of 32 activations are NaN or infinite"):
        make_trainer(tmp_path, log_every_n_steps=every).fit(make_module(), datamodule=data)


def test_constant_activations(tmp_path: Path) -> None:
    data = Toy()
    data.statistics = Statistics(torch.ones(D_IN), float("inf"))
    with pytest.raises(ValueError, match="constant"):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"decay_fraction in 0\.\.1, got 3 and 1\.5"):
        make_module(decay_fraction=1.5)
    for name in ("decay", "bias", "rows"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*, got typo"):
            make_module(**{name: "typo"})
    with pytest.raises(ValueError, match="without d_in"):
        SAEModule(partial(TopK, d_in=4, d_sae=8, k=2), lr=1.0, warmup_steps=0, decay_fraction=0)
    with pytest.raises(ValueError, match="endless training"):
        make_trainer(tmp_path, max_epochs=-1).fit(make_module(), datamodule=Toy())
    with pytest.raises(ValueError, match=r"module\.gradient_clip"):
        make_trainer(tmp_path, gradient_clip_val=1.0).fit(make_module(), datamodule=Toy())
    with pytest.raises(ValueError, match="width 9, got 8"):
        make_trainer(tmp_path).validate(make_module(d_in=9), datamodule=Toy())


def test_configs_instantiate(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "conf"
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = compose(overrides=["+sae=topk", "+module=default", "sae.d_sae=24", "sae.k=2"])
    module = instantiate(config.module)
    assert module.hparams["sae"] == {
        "variant": "TopK",
        "d_sae": 24,
        "k": 2,
        "dead_after": config.sae.dead_after,
        "selection": config.sae.selection,
        "kernels": config.sae.kernels,
        "normalisation": config.sae.normalisation,
    }
    make_trainer(tmp_path, max_epochs=1).fit(module, datamodule=Toy())
