"""Gated: one path says which latents are active, another how much."""

from typing import Unpack

import torch
from torch import Tensor, nn

from lightning_sae.sae.base import Encoded, Penalties, SAEOptions, SparseAutoencoder, check_penalty
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import bag
from lightning_sae.sae.kernels.topk_selection import Spare
from lightning_sae.types import SparseLatents


class Gated(SparseAutoencoder):
    """Autoencoder whose penalty acts on a gate, so that it does not shrink the latents.

    `gate = (x_n - b_dec) @ W_enc + b_enc`, `latents = 1[gate > 0] * ReLU(e^r * (gate - b_enc) + b_mag)`. Loss
    `mse + l1_weight * mean_tokens sum_j ReLU(gate_j) + mean ||x_n - ReLU(gate) @ W_dec - b_dec||^2`, the
    last, by which the gate learns, without a gradient to the decoder. The weight rises linearly from 0 over
    the first `l1_warmup_steps`. Source: Rajamanoharan et al. 2024, "Improving dictionary learning with gated
    sparse autoencoders", arXiv 2404.16014.

    Attributes:
        r_mag: `[d_sae]`, logarithm of what the second path multiplies the first by.
        b_mag: `[d_sae]`, on normalised activations.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        l1_weight: weight of the penalty, >= 0, in normalised units.
        l1_warmup_steps: optimiser steps until the whole weight.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> sae = Gated(d_in=2, d_sae=2, l1_weight=1e-3)
        >>> _ = sae.encoder.data.copy_(torch.eye(2)), sae.b_mag.data.fill_(0.5)
        >>> sae.encode(torch.tensor([[1.0, -1.0]])).to_dense()
        tensor([[1.5000, 0.0000]], grad_fn=<IndexPutBackward0>)
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        l1_weight: float,
        l1_warmup_steps: int = 500,
        **options: Unpack[SAEOptions],
    ) -> None:
        super().__init__(d_in, d_sae, **options)
        check_penalty("l1", l1_weight, l1_warmup_steps)
        self.l1_weight, self.l1_warmup_steps = l1_weight, l1_warmup_steps
        self.r_mag = nn.Parameter(torch.zeros(d_sae))
        self.b_mag = nn.Parameter(torch.zeros(d_sae))

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations `[n, d_in]`, >= 0 where the gate is open."""
        gate, _, joint = self.above(x - self.b_dec.detach(), 0.0)
        return self._magnitudes(gate, joint.main)

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the same, the penalty, and the error of the reconstruction by the gate."""
        gate, second, joint = self.above(centred, 0.0, spare)
        residual = centred - bag(gate, self.W_dec.detach(), joint.main)
        weight = self.l1_weight * self._warmed_up(self.l1_warmup_steps)
        penalties: Penalties = {
            "l1": (weight, gate.sum() / max(1, len(centred))),
            "gate_mse": (1.0, residual.square().mean()),
        }
        return Encoded(self._magnitudes(gate, joint.main), penalties, second.relu(), joint)

    def encoder_slopes(self) -> Tensor:
        """Return the gradient of each open latent, `[d_sae, d_in]`."""
        return self.r_mag.detach().exp()[:, None] * super().encoder_slopes()

    def rescale(self, factor: Tensor) -> None:
        """Multiply the biases of both paths."""
        super().rescale(factor)
        self.b_mag.data.mul_(factor)

    def _magnitudes(self, gate: Tensor, pattern: Pattern) -> SparseLatents:
        j = pattern.indices
        return pattern.latents((self.r_mag.exp()[j] * (gate - self.b_enc[j]) + self.b_mag[j]).relu())
