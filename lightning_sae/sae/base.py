"""What every sparse autoencoder here is: parameters, normalisation, loss, housekeeping of the decoder."""

import copy
import inspect
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_sae.sae.kernels import bag
from lightning_sae.sae.pattern import Pattern
from lightning_sae.sae.workspace import Workspace
from lightning_sae.types import SparseLatents


class TrainingLoss(NamedTuple):
    """What one training step needs.

    Attributes:
        loss: scalar to minimise.
        latents: of the batch, detached, in raw units.
        parts: name -> detached scalar; what the loss is made of.
    """

    loss: Tensor
    latents: SparseLatents
    parts: dict[str, Tensor]


class SparseAutoencoder(nn.Module):
    """Base of the variants: `x_hat = latents @ W_dec + b_dec` with few latents active per token.

    Inside, it works on normalised activations `x_n = (x - mean) * scale`; `encode`, `decode` and `forward`
    take and give raw units: latents are divided by `scale`, so that `x_hat = latents @ W_dec + b_dec_raw` and
    the rows of `W_dec` keep unit norm. `fold` moves the normalisation into the biases.

    A variant overrides `encode_normalised`, and `extra_loss` where its training has another term. It keeps
    each of its constructor arguments as an attribute of the same name, from which `config` can rebuild it.

    Attributes:
        encoder: `[d_sae, d_in]`, one contiguous row per latent; `W_enc [d_in, d_sae]` is its public view.
        b_enc: `[d_sae]`, on normalised activations.
        W_dec: `[d_sae, d_in]`, rows of unit norm.
        b_dec: `[d_in]`, on normalised activations; `b_dec_raw` in raw units.
        mean: `[d_in]` buffer.
        scale: scalar buffer > 0.
        tokens_since_fired: `[d_sae]` int64 buffer, tokens seen since each latent was last active.
        provenance: what a loaded autoencoder is valid for; empty before saving.
        workspace: memory that training uses again and again.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        dead_after: tokens without a firing after which the running counter calls a latent dead.

    Raises:
        ValueError: a width or `dead_after` below 1.
    """

    variants: ClassVar[dict[str, type["SparseAutoencoder"]]] = {}

    mean: Tensor
    scale: Tensor
    tokens_since_fired: Tensor

    def __init__(self, d_in: int, d_sae: int, dead_after: int) -> None:
        super().__init__()
        for name, value in {"d_in": d_in, "d_sae": d_sae, "dead_after": dead_after}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.d_in, self.d_sae, self.dead_after = d_in, d_sae, dead_after
        self.provenance: dict[str, Any] = {}
        self.workspace = Workspace()
        rows = normalize(torch.randn(d_sae, d_in), dim=1)
        self.W_dec = nn.Parameter(rows)
        self.encoder = nn.Parameter(rows.clone())  # tied at the start (Gao et al. 2024, arXiv 2406.04093)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.register_buffer("mean", torch.zeros(d_in))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("tokens_since_fired", torch.zeros(d_sae, dtype=torch.int64))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        SparseAutoencoder.variants[cls.__name__] = cls

    @property
    def W_enc(self) -> Tensor:  # noqa: N802
        """`[d_in, d_sae]`, a view of the encoder rows."""
        return self.encoder.T

    @property
    def b_dec_raw(self) -> Tensor:
        """`[d_in]`, what `decode` adds, in raw units."""
        return self.b_dec / self.scale + self.mean

    @property
    def dead(self) -> Tensor:
        """`[d_sae]` bool: not active for more than `dead_after` training tokens."""
        return self.tokens_since_fired > self.dead_after

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this autoencoder."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @torch.no_grad()
    def initialise(self, mean: Tensor, scale: Tensor | float) -> None:
        """Sets the normalisation `x_n = (x - mean) * scale`, before training.

        Args:
            mean: `[d_in]`.
            scale: > 0.

        Raises:
            ValueError: wrong width, values that aren't finite, or a scale that isn't positive, as constant
                activations give.
        """
        scale = torch.as_tensor(scale, dtype=self.scale.dtype)
        if mean.shape != (self.d_in,):
            raise ValueError(f"mean must have shape [{self.d_in}], got {list(mean.shape)}")
        if not (mean.isfinite().all() and scale.isfinite() and scale > 0):
            raise ValueError(
                f"cannot normalise activations with a mean of norm {float(mean.norm()):.3g} and scale "
                f"{float(scale):.3g}: they are constant or hold NaN; check the hook point and the images"
            )
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Latents of normalised activations, differentiable; what a variant defines.

        Args:
            x: `[n, d_in]`, normalised.

        Returns:
            Latents in normalised units. No `[n, d_sae]` tensor is made for more than a chunk of rows.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode_normalised")

    def extra_loss(self, x: Tensor, residual: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Terms that a variant adds to the squared error: name -> (weight, scalar).

        Args:
            x: `[n, d_in]`, normalised.
            residual: `[n, d_in]`, `x - x_hat`, normalised.
        """
        return {}

    def normalise(self, x: Tensor) -> Tensor:
        """Raw activations `[n, d_in]` -> normalised, in the precision of the parameters."""
        return (x.to(self.mean.dtype) - self.mean) * self.scale

    def encode(self, x: Tensor) -> SparseLatents:
        """Raw activations `[n, d_in]` -> latents in raw units."""
        latents = self.encode_normalised(self.normalise(x))
        return latents.with_values(latents.values / self.scale)

    def decode(self, latents: SparseLatents) -> Tensor:
        """Latents in raw units -> `x_hat [n, d_in]` in raw units."""
        pattern = Pattern(latents.indices, latents.offsets, latents.d_sae)
        return bag(latents.values, self.W_dec, pattern) + self.b_dec_raw

    def forward(self, x: Tensor) -> tuple[Tensor, SparseLatents]:
        """Raw activations `[n, d_in]` -> `(x_hat, latents)`, both in raw units."""
        latents = self.encode(x)
        return self.decode(latents), latents

    def training_loss(self, x: Tensor) -> TrainingLoss:
        """Squared error per token and dimension, in normalised space, and what the variant adds.

        `mse = sum ||x_n - x_hat_n||^2 / (n d_in)`. As `E ||x_n||^2 = d_in`, it is 1 for the mean as a
        reconstruction and close to the FVU.

        Args:
            x: `[n, d_in]`, raw.
        """
        x = self.normalise(x)
        latents = self.encode_normalised(x)
        pattern = Pattern(latents.indices, latents.offsets, latents.d_sae)
        residual = x - self._rebuild(latents.values, pattern) - self.b_dec
        loss = residual.square().mean()
        parts = {"mse": loss.detach()}
        for name, (weight, term) in self.extra_loss(x, residual).items():
            loss = loss + weight * term
            parts[name] = term.detach()
        return TrainingLoss(loss, latents.with_values(latents.values.detach() / self.scale), parts)

    @torch.no_grad()
    def fold(self) -> Self:
        """The same autoencoder with `mean = 0` and `scale = 1`: its parameters take and give raw units."""
        folded = copy.deepcopy(self)
        folded.b_enc.div_(self.scale)
        folded.b_dec.copy_(self.b_dec_raw)
        folded.mean.zero_()
        folded.scale.fill_(1)
        return folded

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Gives the decoder rows unit norm again; to be called after each optimiser step."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(torch.finfo(self.W_dec.dtype).tiny))

    @torch.no_grad()
    def count_firings(self, fired: Tensor, n_tokens: int | Tensor) -> None:
        """Advances `tokens_since_fired` by a batch.

        Args:
            fired: `[d_sae]` bool, active on some token of the batch.
            n_tokens: tokens in the batch.
        """
        self.tokens_since_fired.add_(n_tokens).masked_fill_(fired, 0)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; those of the rows leave their memory for the next ones."""
        if set_to_none:
            for rows in (self.W_dec, self.encoder):
                if rows.grad is not None:
                    self.workspace.give(rows.grad)
        super().zero_grad(set_to_none)

    def _rebuild(self, values: Tensor, pattern: Pattern) -> Tensor:
        """`latents @ W_dec` in training: what the unit norm would undo is not in the gradient of `W_dec`."""
        return bag(values, self.W_dec, pattern, self.workspace, unit_rows=True)
