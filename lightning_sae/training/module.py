"""Training an autoencoder with Lightning: steps, optimiser, metrics. It knows no CLIP."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial, reduce
from itertools import islice, zip_longest
from typing import Any, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_sae.mappings import differences, flatten
from lightning_sae.metrics import TopImages
from lightning_sae.sae import SparseAutoencoder, find_variant
from lightning_sae.sae.initialisation import BiasStart, RowStart, initialise, start_bias
from lightning_sae.training.clipping import AdamOfGroups, clip_by_scale
from lightning_sae.training.final_validation import FinalValidation
from lightning_sae.training.schedule import Decay, lr_factor
from lightning_sae.training.trained_layer import TrainedLayer
from lightning_sae.training.validation import MEASURED, ValidationMetrics
from lightning_sae.trust.numbers import check_counts, check_numbers, check_positive
from lightning_sae.types import Batch, ValidationOutput

SAMPLE = 16_384  # activations that a geometric median is of, at least
# settings of a training that its checkpoint has taken in
FIXED = ("lr", "betas", "bias", "rows", "tied", "frozen_decoder")


class SAEModule(LightningModule):
    """Trains a sparse autoencoder on batches of activations.

    The autoencoder is built in `configure_model` from `trainer.datamodule.d_in` and `.statistics`, or from a
    checkpoint alone (`load_from_checkpoint`). Where the datamodule has `earlier` hook points, an autoencoder
    of each is trained beside, exactly as it would be alone.

    Args:
        sae: partial of a variant that lacks only `d_in`, or a mapping of its class name as `variant` and its
            other arguments, as a checkpoint keeps it.
        lr: peak learning rate of Adam.
        warmup_steps: optimiser steps until the peak.
        decay_fraction: share of all steps, at the end, in which the learning rate falls to 0.
        decay: how it falls, `linear` or `cosine`.
        bias: where the decoder bias starts: the `mean` of the train activations, their `geometric_median`,
            which single outliers do not move, or `zero`.
        rows: where the decoder rows start: `random` directions, or `data`, activations about the bias.
        tied: whether the encoder rows start as the decoder rows.
        frozen_decoder: whether the decoder rows stay as they start, bit for bit, while encoder and biases
            learn: the baseline that shows what a dictionary of random directions explains (Korznikov et al.
            2026, arXiv 2602.14111).
        gradient_clip: largest norm of the gradient over all parameters; `None` for any.
        betas: of Adam.
        top_n: images kept per latent.
        d_in: width of the activations; `None` takes it from the datamodule. A checkpoint knows it.
        earlier: widths at the earlier hook points, by their short names; `None` takes them from the
            datamodule. A checkpoint knows them.

    Attributes:
        sae: the autoencoder, once configured.
        earlier: the autoencoders of earlier hook points, in order.
        metrics: `ValidationMetrics` of all of them, those of `sae` last.
        infinite: `[layers, 3]` int64 buffer: for each autoencoder the first step whose loss was not finite
            (-1 for none), how many activations of that step were not finite, and how many there were. It is
            read when a row is logged, before a validation pass, before a checkpoint is written and at the
            end: to look at every step would stop a GPU.

    Logged:
        `train/loss`, its parts (`train/mse`, `train/aux`), `train/dead_fraction` (at the end of fit, over the
        whole train store); `val/fvu`, `val/cosine`, `val/l0`, `val/dead_fraction` (by the running counter),
        `val/density_p10`, `_p50`, `_p90` (over the latents that fire). After a layer norm also
        `val/fvu_layer_norm`, the FVU again, which two given numbers of each token have made smaller. Of an
        earlier hook point the same with its name behind: `train/loss/resblocks.1`, `val/fvu/resblocks.1`.

    Raises:
        ValueError: a number out of its range, an endless training with decay, or a loss that is not finite.
    """

    logs = ("train/*", *(f"val/{name}{end}" for end in ("", "/*") for name in MEASURED))
    sae: SparseAutoencoder
    earlier: nn.ModuleList
    metrics: nn.ModuleList
    infinite: Tensor

    def __init__(
        self,
        sae: "partial[SparseAutoencoder] | Mapping[str, Any]",
        lr: float,
        warmup_steps: int,
        decay_fraction: float,
        decay: Decay = "linear",
        bias: BiasStart = "mean",
        rows: RowStart = "random",
        tied: bool = True,
        frozen_decoder: bool = False,
        gradient_clip: float | None = 1e-3,
        betas: Sequence[float] = (0.9, 0.99),
        top_n: int = 20,
        d_in: int | None = None,
        earlier: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        check_positive(lr=lr, gradient_clip=gradient_clip)
        check_counts(1, top_n=top_n)
        if warmup_steps < 0 or not 0 <= decay_fraction <= 1:
            raise ValueError(
                "warmup_steps must be at least 0 and decay_fraction in 0..1, "
                f"got {warmup_steps} and {decay_fraction}"
            )
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in 0..1 below 1, got {list(betas)}")
        for name, choice, choices in (
            ("decay", decay, get_args(Decay)),
            ("bias", bias, get_args(BiasStart)),
            ("rows", rows, get_args(RowStart)),
        ):
            if choice not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {choice}")
        arguments: dict[str, Any] = {
            "sae": _plain(sae),
            "lr": lr,
            "warmup_steps": warmup_steps,
            "decay_fraction": decay_fraction,
            "decay": decay,
            "bias": bias,
            "rows": rows,
            "tied": tied,
            "frozen_decoder": frozen_decoder,
            "gradient_clip": gradient_clip,
            "betas": [float(beta) for beta in betas],
            "top_n": top_n,
            "d_in": d_in,
            "earlier": earlier,
        }
        self.save_hyperparameters(arguments)
        self._random = torch.get_rng_state()  # of the start: until then ranks draw other numbers

    @property
    def layers(self) -> list[TrainedLayer]:
        """All autoencoders with their metrics, in the order of their hook points; the run's own is last."""
        names, saes = [*self.hparams["earlier"], ""], [*self.earlier, self.sae]
        return [TrainedLayer(*each) for each in zip(names, saes, self.metrics, strict=True)]  # type: ignore[arg-type]

    @property
    def validation(self) -> ValidationMetrics:
        """The metrics of the run's own autoencoder, of the running or last validation pass."""
        return self.layers[-1].metrics

    @property
    def top_images(self) -> TopImages:
        """The top images of the run's own latents, of the running or last validation pass."""
        return self.validation.top_images

    @property
    def dead(self) -> Tensor | None:
        """`[d_sae]` bool, never active on the whole train store; `None` until the end of `fit`."""
        return self.validation.dead

    @property
    def density(self) -> Tensor:
        """`[d_sae]` share of the validation tokens on which each latent fires; on all ranks or on none."""
        return self.validation.density

    def check(self, d_in: int) -> None:
        """Refuse arguments that no autoencoder of this width takes, before its data are there.

        Args:
            d_in: width of the activations that there will be.

        Raises:
            ValueError: as the variant does.
        """
        arguments = dict(self.hparams["sae"])
        variant = find_variant(arguments.pop("variant"))
        check_numbers(**{f"sae.{key}": value for key, value in arguments.items() if isinstance(value, float)})
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                variant(d_in=d_in, **arguments)
        except TypeError as error:
            raise ValueError(f"{variant.__name__} does not take these settings of sae: {error}") from error

    def check_end(self, trainer: Trainer) -> None:
        """Refuse a learning rate that decays towards the end of an endless training.

        Raises:
            ValueError: it does.
        """
        if self.hparams["decay_fraction"] and trainer.max_steps == trainer.max_epochs == -1:
            raise ValueError(
                "the learning rate cannot decay towards the end of an endless training; "
                "set trainer.max_steps or trainer.max_epochs, or module.decay_fraction=0"
            )

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that closes every fit with a validation of the final weights."""
        return [FinalValidation()]

    def setup(self, stage: str) -> None:
        """Refuse a datamodule that a loaded autoencoder does not fit."""
        d_in, given = self.hparams["d_in"], self._datamodule().d_in
        if d_in not in (None, given):
            raise ValueError(
                f"the autoencoder takes activations of width {d_in}, got {given}: check the hook point"
            )
        earlier, widths = self.hparams["earlier"], self._widths()
        if earlier not in (None, widths):
            raise ValueError(
                f"the autoencoders of earlier hook points take activations of widths {earlier}, got "
                f"{widths}: check hook_points"
            )

    def configure_model(self) -> None:
        """Build autoencoders and metrics, once.

        An autoencoder starts on the CPU, from which Lightning moves it: the same weights on every device. All
        start from the same random state, each as it would alone.
        """
        if hasattr(self, "sae"):
            return
        fresh = self.hparams["d_in"] is None
        if fresh:
            self.hparams["d_in"], self.hparams["earlier"] = self._datamodule().d_in, self._widths()
        earlier = self.hparams["earlier"] = dict(self.hparams["earlier"] or {})
        activations = self._activations() if fresh else []
        widths = [*earlier.values(), self.hparams["d_in"]]
        *before, self.sae = saes = [self._build(*given) for given in zip_longest(widths, activations)]
        self.earlier = nn.ModuleList(before)
        self.metrics = nn.ModuleList(ValidationMetrics(sae, self.hparams["top_n"]) for sae in saes)
        self.register_buffer("infinite", torch.tensor([[-1, 0, 0]] * len(saes)), persistent=False)

    def untrained(self) -> SparseAutoencoder:
        """Return the run's own autoencoder as it was before the first step, on the CPU.

        A module that goes on from a checkpoint gives the same as long as it was made with the same seed.
        """
        return self._build(self.hparams["d_in"], self._datamodule())

    def _build(self, d_in: int, activations: Any | None) -> SparseAutoencoder:
        """Return an autoencoder that starts from activations, or with weights that a checkpoint replaces."""
        arguments = dict(self.hparams["sae"])
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            sae = find_variant(arguments.pop("variant"))(d_in=d_in, **arguments)
            if activations is not None:
                self._initialise(sae, activations)
        sae.W_dec.requires_grad_(not self.hparams["frozen_decoder"])
        return sae

    def _initialise(self, sae: SparseAutoencoder, activations: Any) -> None:
        statistics, start = activations.statistics, self.hparams
        mean = statistics.mean.cpu()
        sae.set_normalisation(mean, statistics.scale)
        needed = start["rows"] == "data" or start["bias"] == "geometric_median"
        sample = None
        if needed or sae.normalisation == "layer_norm":
            sample = activations.sample(max(SAMPLE, sae.d_sae)).cpu()
        bias = start_bias(sae, start["bias"], mean, sample)
        initialise(sae, bias, sample if start["rows"] == "data" else None, start["tied"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the fused Adam, and a schedule in optimiser steps."""
        self.check_end(self.trainer)
        beta1, beta2 = self.hparams["betas"]
        groups = [{"params": list(layer.sae.parameters())} for layer in self.layers]
        kind = AdamOfGroups if self.earlier else Adam
        optimiser = kind(groups, lr=self.hparams["lr"], betas=(beta1, beta2), fused=True)
        scheduler = LambdaLR(optimiser, self._lr_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        # Before the first step this would load the data, and Lightning would not restore their position.
        total = self.trainer.estimated_stepping_batches if step else math.inf
        schedule = (self.hparams[name] for name in ("warmup_steps", "decay_fraction", "decay"))
        return lr_factor(step, total, *schedule)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch of raw activations, summed over the autoencoders.

        It also advances their counters of dead latents.
        """
        losses: list[Tensor] = []
        values: dict[str, Tensor] = {}
        for place, (layer, x) in enumerate(zip(self.layers, (*batch.earlier, batch.x), strict=True)):
            loss, latents, parts = layer.sae.training_loss(x)
            names = [f"train/{name}{layer.suffix}" for name in ("loss", *parts)]
            fired, means = self._over_ranks(latents.fired(), [loss.detach(), *parts.values()])
            self._note_infinite(place, means[0], x)
            layer.sae.count_firings(fired, len(x) * self.trainer.world_size)
            losses.append(loss)
            values |= dict(zip(names, means, strict=True))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.trainer.global_step + 1) % every == 0:
            self._check()
            for name, mean in values.items():
                self.log(name, mean, batch_size=len(batch.x))
        return reduce(torch.add, losses)

    def _over_ranks(self, fired: Tensor, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return which latents are active on any rank, and the means of scalars over the ranks.

        Both come from one reduction; the batches of all ranks are equally large.
        """
        means = torch.stack([value.to(values[0]) for value in values])
        if self.trainer.world_size == 1:
            return fired, means
        total = self._sum(torch.cat([fired.to(means), means]))
        return total[: len(fired)] > 0, total[len(fired) :] / self.trainer.world_size

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Forget the gradients, whose memory the next ones take."""
        for layer in self.layers:
            layer.sae.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to `gradient_clip`; the Trainer's own way refuses a fused optimiser in mixed precision."""
        if gradient_clip_val is not None:
            raise ValueError(
                f"set module.gradient_clip, not the Trainer's gradient_clip_val={gradient_clip_val}"
            )
        if self.hparams["gradient_clip"] is not None:
            self._clip(optimizer, self.hparams["gradient_clip"])

    def _clip(self, optimizer: Optimizer, largest: float) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None and self.dtype == torch.float32:
            clip_by_scale(optimizer, largest)
        else:
            scale = scaler.get_scale() if scaler else 1.0
            for layer in self.layers:
                torch.nn.utils.clip_grad_norm_(layer.sae.parameters(), largest * scale)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make a step, after which decoder rows that learn have unit norm again."""
        super().optimizer_step(*args, **kwargs)
        for layer in self.layers:
            layer.sae.after_step()

    def on_validation_start(self) -> None:
        """Refuse to validate what has become infinite."""
        self._check()

    def check_checkpoint(self, then: Mapping[str, Any], goes_on: bool) -> None:
        """Refuse a checkpoint of other settings than this module has.

        A checkpoint holds the weights of its autoencoder, and Adam's state with its learning rate; to go on
        with them under other settings would be neither the one training nor the other. What it does not hold
        (`warmup_steps`, `decay_fraction`, `decay`, `gradient_clip`, `top_n`) may change.

        Args:
            then: the hyper-parameters in the checkpoint.
            goes_on: whether the training goes on; the weights alone have to fit the autoencoder.

        Raises:
            ValueError: names each setting with both values.
        """
        before, now = (
            flatten({"sae": given["sae"], "module": {name: given[name] for name in FIXED if goes_on}})
            for given in (then, self.hparams)
        )
        changed = differences(before, now)
        if changed:
            raise ValueError(
                f"the checkpoint was trained with other settings: {', '.join(changed)}. Set them as they "
                "were, or start a new training without ckpt_path"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what a trainer would load into other settings, as `check_checkpoint`."""
        if self._trainer is not None:
            self.check_checkpoint(checkpoint["hyper_parameters"], self._trainer.state.fn == "fit")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save what has become infinite."""
        self._check()

    def on_train_end(self) -> None:
        """Count the latents that never fire on the whole train store."""
        self._check()
        fractions = {}
        for layer, activations in zip(self.layers, self._activations(), strict=True):
            layer.metrics.dead = self._never_fired(layer.sae, activations.train_batches())
            fractions[f"train/dead_fraction{layer.suffix}"] = float(layer.metrics.dead.float().mean())
        for logger in self.trainer.loggers:  # self.log is not allowed here
            logger.log_metrics(fractions, step=self.trainer.global_step)

    def on_validation_epoch_start(self) -> None:
        """Forget the last pass, the sanity check included."""
        for layer in self.layers:
            layer.metrics.reset()

    def validation_step(  # type: ignore[override]  # Lightning hands any output to the callbacks
        self, batch: Batch, batch_idx: int
    ) -> ValidationOutput:
        """Reconstruct a batch in raw units and update the metrics; callbacks take it from here."""
        *earlier, own = self.layers
        for layer, x in zip(earlier, batch.earlier, strict=True):
            layer.metrics.update(layer.sae, x, batch.image_ids)
        return own.metrics.step(own.sae, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass."""
        for layer in self.layers:
            values = layer.metrics.values(layer.sae)
            logged = {f"val/{name}{layer.suffix}": value for name, value in values.items()}
            if not layer.name:
                self.log("val/fvu", logged.pop("val/fvu"), prog_bar=True, sync_dist=True)
            self.log_dict(logged, sync_dist=True)

    @torch.no_grad()
    def _never_fired(self, sae: SparseAutoencoder, batches: Iterator[Tensor]) -> Tensor:
        """Return `[d_sae]` bool; each rank reads its share of the train store's batches."""
        fired = torch.zeros(sae.d_sae, device=self.device)
        for x in islice(batches, self.trainer.global_rank, None, self.trainer.world_size):
            fired += sae.encode(x.to(self.device)).fired()
        return self._sum(fired) == 0

    def _sum(self, tensor: Tensor) -> Tensor:
        total: Tensor = self.trainer.strategy.reduce(tensor, reduce_op="sum")
        return total

    def _note_infinite(self, place: int, loss: Tensor, x: Tensor) -> None:
        """Keep the first step whose loss is not finite, and its bad activations, without awaiting a GPU."""
        bad = (~x.sum(1, dtype=torch.float32).isfinite()).sum()
        step, n = (torch.full_like(bad, count) for count in (self.trainer.global_step, len(x)))
        here = torch.stack([step, bad, n])
        known = self.infinite[place]
        self.infinite[place] = torch.where(~loss.isfinite() & (known[0] < 0), here, known)

    def _check(self) -> None:
        """End a training whose loss has been infinite or NaN since the last look.

        Raises:
            ValueError: it has.
        """
        steps = self.infinite[:, 0].tolist()
        place = next((place for place, step in enumerate(steps) if step >= 0), None)
        if place is None:
            return
        bad, n = self._sum(self.infinite[place, 1:]).tolist()
        cause = (
            f"{bad} of {n} activations are NaN or infinite; check CLIP's precision and the images"
            if bad
            else "the activations are finite; lower module.lr or set module.gradient_clip"
        )
        where = self.layers[place].name and f" for {self.layers[place].name}"
        raise ValueError(f"the loss is not finite at step {steps[place]}{where}: {cause}")

    def _earlier(self) -> Mapping[str, Any]:
        return getattr(self._datamodule(), "earlier", {})  # a datamodule of one's own may know of none

    def _activations(self) -> list[Any]:
        """Return what gives the activations of each autoencoder."""
        return [*self._earlier().values(), self._datamodule()]

    def _widths(self) -> dict[str, int]:
        return {name: each.d_in for name, each in self._earlier().items()}

    def _datamodule(self) -> Any:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if datamodule is None:
            raise ValueError(
                "SAEModule needs a datamodule with d_in and statistics, got None; pass datamodule=..."
            )
        return datamodule


def _plain(sae: "partial[SparseAutoencoder] | Mapping[str, Any]") -> dict[str, Any]:
    """Return the class name and arguments, which a checkpoint can hold without pickled code."""
    if isinstance(sae, Mapping):
        return {key: _plain_list(value) for key, value in sae.items()}
    variant: Any = sae.func
    if sae.args or "d_in" in sae.keywords:
        raise ValueError(
            "sae must be a partial of a variant by keywords, without d_in: the datamodule gives it"
        )
    named = {"variant": find_variant(variant.__name__).__name__, **sae.keywords}
    return {key: _plain_list(value) for key, value in named.items()}


def _plain_list(value: Any) -> Any:
    """Return any list, such as one of Hydra's, as a list of Python's own; all else as it is."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
