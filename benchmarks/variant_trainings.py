"""Trainings of each SAE variant by us and by the public packages, on the same batches.

A package does what it ships: its losses, AuxK, optimiser and initialisation, at its own learning rate or at a
given one. What a package leaves to its user is the same for all: warm-up over the first 5 % of the steps,
decay over the last fifth, penalties that rise over the first quarter, and after how many tokens a latent is
dead. A weight of a penalty means the same in all: that of a token's summed latents beside the mean square per
dimension.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_sae.metrics.moments import ActivationStatistics
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.training.schedule import lr_factor
from lightning_sae.types import Batch, SparseLatents

CONF = Path(__file__).resolve().parents[1] / "conf"
WARMUP, DECAY, RISE = 0.05, 0.2, 0.25  # of the steps: learning rate up, down; weight of a penalty up
AUX_WEIGHT = 1 / 32  # of AuxK, where a package leaves it to its user
PREFIXES = (0.0625, 0.125, 0.25, 0.5, 1.0)  # of Matryoshka, as in conf/sae/matryoshka.yaml
L0_WEIGHT = 0.3  # of (L0 / target - 1)^2, as in conf/sae/jump_relu.yaml
SPARSITY = {"relu": "l1_weight", "gated": "l1_weight", "jump_relu": "target_l0"}  # k of the others


class Task(NamedTuple):
    """One training.

    Attributes:
        variant: as in `conf/sae/`.
        sparsity: active latents per token, or the weight of the penalty of `relu` and `gated`.
        d_sae: latents.
        steps: of the optimiser.
        batch: tokens per step.
        dead_after: tokens without a firing.
        seed: of the order of the tokens.
        lr: learning rate; `None` for the package's own.
    """

    variant: str
    sparsity: float
    d_sae: int
    steps: int
    batch: int
    dead_after: int
    seed: int
    lr: float | None

    @property
    def penalised(self) -> bool:
        """True if `sparsity` is the weight of a penalty."""
        return self.variant in ("relu", "gated")

    def factor(self, step: int) -> float:
        """Return the factor of the learning rate."""
        return lr_factor(step, self.steps, round(WARMUP * self.steps), DECAY)


class Rows:
    """The batches of a task, `[batch, d_in]` each, `task.steps` of them."""

    def __init__(self, x: Tensor, task: Task) -> None:
        self.x, self.task = x, task

    def __len__(self) -> int:
        return self.task.steps

    def __iter__(self) -> Iterator[Tensor]:
        random = torch.Generator().manual_seed(self.task.seed)
        for _ in range(self.task.steps):
            yield self.x[torch.randint(len(self.x), (self.task.batch,), generator=random)]


class Trained(NamedTuple):
    """A result.

    Attributes:
        reconstruct: `[n, d_in]` -> `x_hat [n, d_in]` and latents.
        rows: `[d_sae, d_in]`, of the decoder.
    """

    reconstruct: Callable[[Tensor], tuple[Tensor, SparseLatents]]
    rows: Tensor


class _Data(LightningDataModule):
    """Feeds the rows to `SAEModule`."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows, self.d_in = rows, rows.x.shape[1]
        self.statistics = ActivationStatistics(torch.zeros(self.d_in), 1.0, len(rows.x))

    def train_dataloader(self) -> "_Data":
        """Return itself."""
        return self

    def train_batches(self) -> Iterator[Tensor]:
        """Return no batches: dead latents are counted by the judge."""
        return iter(())

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        for x in self.rows:
            yield Batch(x, *torch.zeros(2, len(x), dtype=torch.int64))


def lightning_sae(task: Task, rows: Rows) -> Trained:
    """Return `SAEModule` with the values of `conf/`, in Lightning's Trainer."""
    name = SPARSITY.get(task.variant, "k")
    sparsity = task.sparsity if name == "l1_weight" else round(task.sparsity)
    overrides = [f"sae={task.variant}", f"sae.{name}={sparsity}", f"sae.d_sae={task.d_sae}", "run_dir=."]
    overrides += [f"sae.dead_after={task.dead_after}", f"module.warmup_steps={round(WARMUP * task.steps)}"]
    rise = {"relu": "l1_warmup_steps", "gated": "l1_warmup_steps", "jump_relu": "l0_warmup_steps"}
    overrides += [f"sae.{rise[task.variant]}={round(RISE * task.steps)}"] if task.variant in rise else []
    overrides += [f"module.lr={task.lr}"] if task.lr else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        module = instantiate(compose("train", overrides).module)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", max_steps=task.steps, logger=False, **quiet)
    trainer.fit(module, datamodule=_Data(rows))
    sae: SparseAutoencoder = module.sae.eval()
    return Trained(sae, sae.W_dec.detach())


def sae_lens(task: Task, rows: Rows) -> Trained:
    """Train by the steps of the trainer of sae-lens, and return the inference model that it saves.

    JumpReLU's penalty is around a target for the number of active latents.
    """
    from sae_lens import SAE, SAETrainer
    from sae_lens.config import SAETrainerConfig
    from sae_lens.registry import get_sae_training_class

    d_in, rise = rows.x.shape[1], round(RISE * task.steps)
    penalty = {"l1_coefficient": task.sparsity * d_in, "l1_warm_up_steps": rise}
    widths = [round(share * task.d_sae) for share in PREFIXES]
    target = {
        "jumprelu_sparsity_loss_mode": "quadratic",
        "target_l0": task.sparsity,
        "l0_warm_up_steps": rise,
    }
    name, options = {
        "topk": ("topk", {"k": round(task.sparsity)}),
        "batch_topk": ("batchtopk", {"k": task.sparsity}),
        "matryoshka": ("matryoshka_batchtopk", {"k": task.sparsity, "matryoshka_widths": widths}),
        "relu": ("standard", penalty),
        "gated": ("gated", penalty),
        "jump_relu": ("jumprelu", target | {"l0_warm_up_steps": rise}),
    }[task.variant]
    kind, config = get_sae_training_class(name)
    size = {
        "total_training_samples": task.steps * task.batch,
        "train_batch_size_samples": task.batch,
        "lr_warm_up_steps": round(WARMUP * task.steps),
        "lr_decay_steps": round(DECAY * task.steps),
        "dead_feature_window": max(1, task.dead_after // task.batch),
        "lr_end": 0.0,  # asked for, and left aside by its constant schedule
    }
    sae = kind(config(d_in=d_in, d_sae=task.d_sae, **options))
    trainer = SAETrainer(SAETrainerConfig(**size, **_lr(task)), sae, data_provider=iter(()))
    for x in rows:
        trainer.step(x)
        trainer.n_training_steps += 1
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        trained = SAE.load_from_disk(folder)
    return _dense(trained.encode, trained.decode, trained.W_dec)


def eai_sparsify(task: Task, rows: Rows) -> Trained:
    """Train on activations as the trainer of eai-sparsify does.

    The optimiser is signed SGD without a schedule, or Adam where a learning rate is given.
    """
    if task.variant != "topk":
        raise NotImplementedError("has TopK only")
    import os

    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # its own switch to PyTorch
    from schedulefree import ScheduleFreeWrapper
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    coder = SparseCoder(rows.x.shape[1], SparseCoderConfig(num_latents=task.d_sae, k=round(task.sparsity)))
    own = None
    if task.lr:
        optimiser: Optimizer = Adam(coder.parameters(), lr=task.lr)
        schedule = LambdaLR(optimiser, task.factor)
    else:
        signs = SignSGD(coder.parameters(), lr=5e-3 / (task.d_sae / 2**14) ** 0.5)
        own = optimiser = ScheduleFreeWrapper(signs, momentum=0.95)
        own.train()
    since_fired = torch.zeros(task.d_sae, dtype=torch.int64)
    for step, x in enumerate(rows):
        if step == 0:
            coder.b_dec.data = x.mean(0)
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=since_fired > task.dead_after)
        (out.fvu + AUX_WEIGHT * out.auxk_loss).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        if own is None:
            schedule.step()
        since_fired += len(x)
        since_fired[out.latent_indices.flatten()] = 0
    if own is not None:
        own.eval()  # the average that its method is about

    def reconstruct(x: Tensor) -> tuple[Tensor, SparseLatents]:
        out = coder(x)
        return out.sae_out, SparseLatents.from_topk(out.latent_acts, out.latent_indices, task.d_sae)

    return Trained(torch.no_grad()(reconstruct), coder.W_dec.detach())


def dictionary_learning(task: Task, rows: Rows) -> Trained:
    """Return its trainers' updates."""
    from dictionary_learning import trainers
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer

    d_in, k = rows.x.shape[1], {"k": round(task.sparsity)}
    rise = {"sparsity_warmup_steps": round(RISE * task.steps)}
    penalty = {"l1_penalty": task.sparsity * d_in, **rise}
    threshold = {"threshold_start_step": task.steps // 2}
    shares = [end - start for start, end in zip((0.0, *PREFIXES), PREFIXES, strict=False)]
    kind, options = {
        "topk": (trainers.TopKTrainer, k | threshold),
        "batch_topk": (trainers.BatchTopKTrainer, k | threshold),
        "matryoshka": (MatryoshkaBatchTopKTrainer, k | threshold | {"group_fractions": shares}),
        "relu": (trainers.StandardTrainer, penalty),
        "gated": (trainers.GatedSAETrainer, penalty),
        "jump_relu": (trainers.JumpReluTrainer, {"target_l0": task.sparsity, **rise}),
    }[task.variant]
    schedule = {
        "warmup_steps": round(WARMUP * task.steps),
        "decay_start": round((1 - DECAY) * task.steps),
    }
    trainer: Any = kind(
        steps=task.steps,
        activation_dim=d_in,
        dict_size=task.d_sae,
        layer=0,
        lm_name="",
        device="cpu",
        **schedule,
        **options,
        **_lr(task),
    )
    trainer.dead_feature_threshold = task.dead_after
    for step, x in enumerate(rows):
        trainer.update(step, x)
    ae = trainer.ae.eval()
    return _dense(ae.encode, ae.decode, ae.W_dec if hasattr(ae, "W_dec") else ae.decoder.weight.T)


def overcomplete(task: Task, rows: Rows) -> Trained:
    """Train with the function `train_sae` of overcomplete.

    Its documentation takes Adam at a learning rate of 5e-4, and leaves JumpReLU's penalty to the user.
    """
    mpl.cm.get_cmap = mpl.colormaps.get_cmap  # it asks for a name that matplotlib has dropped
    from overcomplete.sae import SAE, BatchTopKSAE, JumpSAE, TopKSAE, heaviside, mse_l1, train_sae
    from overcomplete.sae.losses import top_k_auxiliary_loss

    def to_target(x: Tensor, x_hat: Tensor, pre_codes: Tensor, *_: Any) -> Tensor:
        gate = heaviside(pre_codes, sae.thresholds.exp(), sae.kernel_fn, sae.bandwidth)
        l0 = gate.sum(1).mean()
        return (x - x_hat).square().mean() + L0_WEIGHT * (l0 / task.sparsity - 1).square()

    k = round(task.sparsity)
    kinds: dict[str, tuple[Any, dict[str, Any], Any]] = {
        "topk": (TopKSAE, {"top_k": k}, top_k_auxiliary_loss),
        "batch_topk": (BatchTopKSAE, {"top_k": k * task.batch}, top_k_auxiliary_loss),
        "relu": (SAE, {}, partial(mse_l1, penalty=task.sparsity / task.batch)),  # of the batch's sum
        "jump_relu": (JumpSAE, {}, to_target),
    }
    if task.variant not in kinds:
        raise NotImplementedError(f"has no {task.variant}")
    kind, options, loss = kinds[task.variant]
    sae = kind(rows.x.shape[1], nb_concepts=task.d_sae, **options)
    optimiser = Adam(sae.parameters(), lr=task.lr or 5e-4)
    train_sae(sae, rows, loss, optimiser, LambdaLR(optimiser, task.factor), nb_epochs=1, monitoring=0)
    sae.eval()
    return _dense(lambda x: sae.encode(x)[1], sae.decode, sae.get_dictionary())


def _lr(task: Task) -> dict[str, float]:
    return {"lr": task.lr} if task.lr else {}


def _dense(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], rows: Tensor) -> Trained:
    """Return what was trained by a package with dense latents."""

    @torch.no_grad()
    def reconstruct(x: Tensor) -> tuple[Tensor, SparseLatents]:
        latents = encode(x)
        return decode(latents), SparseLatents.from_dense(latents)

    return Trained(reconstruct, rows.detach())


OURS = "lightning_sae"
PACKAGES: dict[str, Callable[[Task, Rows], Trained]] = {
    OURS: lightning_sae,
    "sae-lens": sae_lens,
    "eai-sparsify": eai_sparsify,
    "dictionary-learning": dictionary_learning,
    "overcomplete": overcomplete,
}
