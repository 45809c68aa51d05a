"""What every sparse autoencoder here is: parameters, normalisation, loss, housekeeping of the decoder."""

import copy
import inspect
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self, TypedDict, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_sae.sae.auxk import aux_loss
from lightning_sae.sae.kernels.backend import Kernels, check_kernels, uses_triton
from lightning_sae.sae.kernels.pattern import Joint, Pattern
from lightning_sae.sae.kernels.products import bag, pre_activations
from lightning_sae.sae.kernels.reconstruction import SpareTask, smallest_active, squared_errors
from lightning_sae.sae.kernels.topk_selection import Chosen, Selection, Spare, select_with_spare
from lightning_sae.sae.kernels.value_selection import select_above
from lightning_sae.sae.kernels.workspace import Workspace
from lightning_sae.sae.normalisation import Normalisation, Normalised
from lightning_sae.sae.saving.hub import HubMixin
from lightning_sae.trust.numbers import check_counts
from lightning_sae.types import SparseLatents

Penalties = dict[str, tuple[float | Tensor, Tensor]]


class SAEOptions(TypedDict, total=False):
    """Options that every variant can be given; see `SparseAutoencoder`."""

    dead_after: int
    k_aux: int
    aux_weight: float
    selection: Selection
    kernels: Kernels
    normalisation: Normalisation


class PreActivations(NamedTuple):
    """Pre-activations that a selection has found, with their gradients.

    Attributes:
        main: `[nnz]`, of the latents that reconstruct.
        spare: `[n * k_aux]`, of dead latents; empty if there are none.
        joint: where they are.
    """

    main: Tensor
    spare: Tensor
    joint: Joint


class Encoded(NamedTuple):
    """A training batch, encoded.

    Attributes:
        latents: in normalised units.
        penalties: what the loss adds for them: name -> (weight, scalar).
        spare: `[n * k_aux]` values of the dead latents that AuxK lets learn, >= 0; empty if there are none.
        joint: where both are.
    """

    latents: SparseLatents
    penalties: Penalties
    spare: Tensor
    joint: Joint


class TrainingLoss(NamedTuple):
    """The loss of a training batch, and what else one training step needs.

    Attributes:
        loss: scalar to minimise.
        latents: of the batch, detached, in raw units.
        parts: name -> detached scalar; what the loss is made of.
    """

    loss: Tensor
    latents: SparseLatents
    parts: dict[str, Tensor]


class SparseAutoencoder(Normalised, HubMixin):
    """Base of the variants: `x_hat = latents @ W_dec + b_dec` with few latents active per token.

    Inside, it works on normalised activations `x_n = (x - shift) * scale`; `encode`, `decode` and `forward`
    take and give raw units: latents are divided by `scale`, so that the rows of `W_dec` keep unit norm.
    `fold` moves shift and scale into the biases. A layer norm has a shift and a scale for each token: it
    stays a step at run time, which hands two numbers of each token past the latents, so that its FVU cannot
    be compared with that of other normalisations.

    A variant overrides `encode_normalised` and `encode_training`. It keeps each of its constructor arguments
    as an attribute of the same name, from which `config` can rebuild it.

    Attributes:
        encoder: `[d_sae, d_in]`, one contiguous row per latent; `W_enc [d_in, d_sae]` is its public view.
        b_enc: `[d_sae]`, on normalised activations.
        W_dec: `[d_sae, d_in]`, rows of unit norm.
        b_dec: `[d_in]`, on normalised activations; `bias` gives it in raw units.
        mean, scale: buffers of the normalisation, see `Normalised`.
        steps: int64 buffer, optimiser steps taken.
        tokens_since_fired: `[d_sae]` int64 buffer, tokens seen since each latent was last active.
        provenance: what a loaded autoencoder is valid for; empty before saving.
        metrics: values of the last validation pass of a loaded autoencoder.
        workspace: memory that training uses again and again.
        ends: ends of the prefixes of the dictionary that reconstruct by themselves; none for the whole alone.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        dead_after: tokens without a firing after which the running counter calls a latent dead.
        k_aux: dead latents that AuxK uses per token (`lightning_sae.sae.auxk`), 0 for no AuxK.
        aux_weight: weight of AuxK in the loss, >= 0.
        selection: how the largest pre-activations of a token are found, see `select`: `exact`; `screened` by
            a product in bf16; `checked`, a screening that is proven right; `auto`, a screening where bf16 is
            fast.
        kernels: which compute on a GPU, see `lightning_sae.sae.kernels.backend`: `auto` takes Triton's where
            they compile, `torch` PyTorch's own, `triton` no others.
        normalisation: `standard`: mean 0 and unit mean square per dimension over the train store; `none`;
            `layer_norm`: of each token.

    Raises:
        ValueError: an argument out of its range.
    """

    variants: ClassVar[dict[str, type["SparseAutoencoder"]]] = {}
    ends: tuple[int, ...] = ()

    steps: Tensor
    tokens_since_fired: Tensor

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        dead_after: int = 50_000,
        k_aux: int = 1,
        aux_weight: float = 1 / 32,
        selection: Selection = "auto",
        kernels: Kernels = "auto",
        normalisation: Normalisation = "standard",
    ) -> None:
        super().__init__(d_in, normalisation)
        check_counts(1, d_in=d_in, d_sae=d_sae, dead_after=dead_after)
        if k_aux < 0 or aux_weight < 0:
            raise ValueError(f"k_aux and aux_weight must be at least 0, got {k_aux} and {aux_weight}")
        if selection not in get_args(Selection):
            raise ValueError(f"selection must be one of {', '.join(get_args(Selection))}, got {selection}")
        check_kernels(kernels)
        self.d_sae, self.dead_after, self.selection, self.kernels = d_sae, dead_after, selection, kernels
        self.k_aux, self.aux_weight = k_aux, aux_weight
        self.provenance: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.workspace = Workspace()
        rows = normalize(torch.randn(d_sae, d_in), dim=1)
        self.W_dec = nn.Parameter(rows)
        self.encoder = nn.Parameter(rows.clone())  # tied at the start (Gao et al. 2024, arXiv 2406.04093)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("tokens_since_fired", torch.zeros(d_sae, dtype=torch.int64))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        SparseAutoencoder.variants[cls.__name__] = cls

    @property
    def W_enc(self) -> Tensor:  # noqa: N802
        """`[d_in, d_sae]`, a view of the encoder rows."""
        return self.encoder.T

    @property
    def dead(self) -> Tensor:
        """`[d_sae]` bool: not active for more than `dead_after` training tokens."""
        return self.tokens_since_fired > self.dead_after

    @classmethod
    def parameter_names(cls) -> list[str]:
        """Return the names of the constructor arguments.

        The variant's own names come first, then the names that every variant has.
        """
        own, base = inspect.signature(cls).parameters, inspect.signature(SparseAutoencoder).parameters
        names = [name for name, p in own.items() if p.kind is not p.VAR_KEYWORD]
        return names if len(names) == len(own) else list(dict.fromkeys([*names, *base]))

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments that rebuild this autoencoder."""
        return {name: getattr(self, name) for name in self.parameter_names()}

    def extra_repr(self) -> str:
        """Return the constructor arguments for `repr`, without common ones that have their default."""
        usual = {name: p.default for name, p in inspect.signature(SparseAutoencoder).parameters.items()}
        config = self.config().items()
        return ", ".join(f"{name}={value!r}" for name, value in config if usual.get(name) != value)

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations, each token by itself, differentiable.

        Each variant defines this method.

        Args:
            x: `[n, d_in]`, normalised.

        Returns:
            Latents in normalised units. No `[n, d_sae]` tensor is made for more than a chunk of rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode_normalised")

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the latents of a training batch, and what the loss adds for them.

        Args:
            centred: `[n, d_in]`, normalised, less the decoder bias; see `centre`.
            spare: dead latents that are selected beside; `None` for none.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode_training")

    @torch.no_grad()
    def centre(self, x: Tensor) -> Tensor:
        """Return raw activations `[n, d_in]` normalised, less the decoder bias, without a gradient."""
        return self.normalise(x).sub_(self.b_dec)

    def encode(self, x: Tensor) -> SparseLatents:
        """Return the latents, in raw units, of raw activations `[n, d_in]`."""
        return self.in_raw_units(self.encode_normalised(self.normalise(x)), x)

    def encoder_slopes(self) -> Tensor:
        """Return the gradient of each active latent to the activation it is read from, `[d_sae, d_in]`.

        Both are in raw units. The selection is held fixed, as is the spread of a layer norm.
        """
        rows = self.encoder.detach()
        return rows - rows.mean(1, keepdim=True) if self.normalisation == "layer_norm" else rows

    def bias(self, x: Tensor | None = None) -> Tensor:
        """Return the reconstruction of no latents, in raw units: `[d_in]`, after a layer norm `[n, d_in]`.

        Args:
            x: `[n, d_in]`, raw; a layer norm needs it.

        Raises:
            ValueError: a layer norm without `x`.
        """
        if x is None and self.normalisation == "layer_norm":
            raise ValueError(
                "after a layer norm the bias belongs to its token: give the activations x as well"
            )
        shift, scale = self.shift_and_scale(self.mean if x is None else x.to(self.mean.dtype))
        return self.b_dec / scale + shift

    def decode(self, latents: SparseLatents, x: Tensor | None = None) -> Tensor:
        """Return the reconstruction `x_hat [n, d_in]` by some latents, both in raw units.

        Args:
            latents: as `encode` gives them.
            x: `[n, d_in]`, raw; a layer norm needs it.
        """
        pattern = Pattern.of(latents, self.kernels)
        return bag(latents.values.to(self.W_dec), self.W_dec, pattern) + self.bias(x)

    def forward(self, x: Tensor) -> tuple[Tensor, SparseLatents]:
        """Return `(x_hat, latents)`, both in raw units, of raw activations `[n, d_in]`."""
        latents = self.encode(x)
        return self.decode(latents, x), latents

    def training_loss(self, x: Tensor) -> TrainingLoss:
        """Return the loss: the squared error, AuxK, and what the variant adds.

        The squared error is per token and dimension, in normalised space: `mse = sum ||x_n - x_hat_n||^2 / (n
        d_in)`. As `E ||x_n||^2 = d_in`, it is 1 for the mean as a reconstruction and close to the FVU.

        Args:
            x: `[n, d_in]`, raw.
        """
        centred, spare = self.centre(x), self._spare()
        latents, terms, values, joint = self.encode_training(centred, spare)
        task = None
        if spare is not None:
            task = SpareTask(values, *smallest_active(latents, joint.main.each), spare.n_kept)
        errors = squared_errors(
            latents.values, self.W_dec, centred, self.b_dec, joint, task, self.ends, self.workspace
        )
        loss = errors.main / (centred.numel() * max(1, len(self.ends)))
        parts = {"mse": loss.detach()}
        if self.k_aux > 0 and self.aux_weight > 0:
            aux = loss.new_zeros(()) if task is None else aux_loss(errors, task)
            terms = terms | {"aux": (self.aux_weight, aux)}
        for name, (weight, term) in terms.items():
            loss = loss + weight * term
            parts[name] = term.detach()
        detached = latents.with_values(latents.values.detach())
        return TrainingLoss(loss, self.in_raw_units(detached, x), parts)

    def _spare(self) -> Spare | None:
        """Return the dead latents, `None` if there are none; on a GPU also an empty set, without a wait."""
        if self.k_aux == 0 or self.aux_weight == 0:
            return None
        dead = self.dead
        if dead.device.type == "cpu" and not dead.any():
            return None
        return Spare(dead, min(self.k_aux, self.d_sae))

    @torch.no_grad()
    def fold(self) -> Self:
        """Return this autoencoder with `mean = 0` and `scale = 1`.

        The parameters of the copy take and give raw units.
        """
        folded = copy.deepcopy(self)
        folded.b_dec.copy_(self.b_dec / self.scale + self.mean)
        folded.rescale(self.scale.reciprocal().expand(self.d_sae))
        folded.mean.zero_()
        folded.scale.fill_(1)
        return folded

    @torch.no_grad()
    def absorb_row_norms(self) -> None:
        """Give the decoder rows unit norm, and their lengths to the latents.

        The reconstruction stays the same where each latent is selected by itself; where latents compete, they
        compete with their new lengths.
        """
        norms = self.W_dec.norm(dim=1)
        self.encoder.mul_(norms[:, None])
        self.rescale(norms)
        self.normalise_decoder()

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        """Multiply the biases and thresholds of the latents; a variant adds its own.

        Args:
            factor: `[d_sae]`, > 0.
        """
        self.b_enc.mul_(factor)

    @torch.no_grad()
    def after_step(self) -> None:
        """Count an optimiser step that was made, and give the decoder rows unit norm again if they learn."""
        self.steps.add_(1)
        if self.W_dec.requires_grad:
            self.normalise_decoder()

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Give the decoder rows unit norm."""
        if uses_triton(self.W_dec, self.kernels):
            from lightning_sae.sae.kernels import triton_products

            triton_products.unit_rows(self.W_dec)
        else:
            norms = self.W_dec.norm(dim=1, keepdim=True)
            self.W_dec.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny))

    @torch.no_grad()
    def count_firings(self, fired: Tensor, n_tokens: int | Tensor) -> None:
        """Advance `tokens_since_fired` by a batch.

        Args:
            fired: `[d_sae]` bool, active on some token of the batch.
            n_tokens: tokens in the batch.
        """
        self.tokens_since_fired.add_(n_tokens).masked_fill_(fired, 0)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; those of the rows leave their memory for the next ones."""
        if set_to_none:
            for rows in (self.W_dec, self.encoder):
                if rows.grad is not None:
                    self.workspace.give(rows.grad)
        super().zero_grad(set_to_none)

    def _warmed_up(self, steps: int) -> Tensor:
        """Return the share of a penalty's weight at this step: rises linearly to 1 over `steps`."""
        return ((self.steps + 1) / max(1, steps)).clamp(max=1)

    def largest(self, centred: Tensor, k: int, spare: Spare | None = None) -> PreActivations:
        """Return the pre-activations of each token's `k` largest latents, and of its largest spare ones.

        Args:
            centred: `[n, d_in]`, normalised, less the decoder bias.
            k: in `1..d_sae`.
            spare: latents that are selected beside; `None` for none.
        """
        arguments = self.encoder, self.b_enc, k, spare, self.selection, self.workspace, self.kernels
        chosen, second = select_with_spare(centred, *arguments)
        pattern = Pattern.from_topk(chosen.indices, self.d_sae, self.kernels)
        return self.with_gradient(chosen.values.view(-1), pattern, second, centred)

    def above(self, centred: Tensor, floor: Tensor | float, spare: Spare | None = None) -> PreActivations:
        """Return the pre-activations above a floor, and the largest spare ones.

        The floor is one number for all latents, or `[d_sae]`, one for each.
        """
        floor = floor.detach() if isinstance(floor, Tensor) else floor
        arguments = self.encoder, self.b_enc, floor, self.selection, self.workspace, self.kernels, spare
        return self.with_gradient(*select_above(centred, *arguments), centred)

    def with_gradient(
        self, known: Tensor, pattern: Pattern, second: Chosen | None, centred: Tensor
    ) -> PreActivations:
        """Give gradients to pre-activations that a selection has found.

        Args:
            known: `[nnz]`, of the pattern.
            pattern: where they are.
            second: a selection among spare latents; `None` for none.
            centred: `[n, d_in]`, what they were found with.
        """
        joint = Joint(pattern)
        if second is not None:
            joint = Joint(pattern, Pattern.from_topk(second.indices, self.d_sae, self.kernels))
            known = torch.cat([known, second.values.view(-1)])
        arguments = centred, self.b_dec, self.encoder, self.b_enc, joint, self.workspace
        return PreActivations(*joint.split(pre_activations(known, *arguments)), joint)


def check_k(k: Any, d_sae: int) -> None:
    """Refuse a number of active latents that `d_sae` latents cannot have.

    Raises:
        ValueError: it is not whole, or not in `1..d_sae`.

    Example:
        >>> check_k(2.5, d_sae=64)
        Traceback (most recent call last):
        ValueError: k must be in 1..d_sae=64, got 2.5
    """
    if not isinstance(k, Integral) or not 1 <= int(k) <= d_sae:
        raise ValueError(f"k must be in 1..d_sae={d_sae}, got {k!r}")


def check_penalty(name: str, weight: float, warmup_steps: int) -> None:
    """Refuse a negative weight of a penalty, or a negative number of steps until it is reached.

    Raises:
        ValueError: names the arguments of a variant, `NAME_weight` and `NAME_warmup_steps`.

    Example:
        >>> check_penalty("l1", -1.0, 500)
        Traceback (most recent call last):
        ValueError: l1_weight and l1_warmup_steps must be at least 0, got -1.0 and 500
    """
    if weight < 0 or warmup_steps < 0:
        raise ValueError(
            f"{name}_weight and {name}_warmup_steps must be at least 0, got {weight} and {warmup_steps}"
        )
