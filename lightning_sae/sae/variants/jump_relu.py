"""JumpReLU: each latent has a threshold of its own, learned together with how many are active."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_sae.sae.base import Encoded, SAEOptions, SparseAutoencoder, check_penalty
from lightning_sae.sae.kernels import distributed as ranks
from lightning_sae.sae.kernels.topk_selection import Spare
from lightning_sae.types import SparseLatents


class JumpReLU(SparseAutoencoder):
    """Autoencoder whose pre-activations above a learned threshold are its latents.

    `latents = z * 1[z > theta]`, `z = (x_n - b_dec) @ W_enc + b_enc`, `theta > 0` for each latent. Loss
    `mse + l0_weight * L0`, or with a target `mse + l0_weight * (L0 / target_l0 - 1)^2`,
    `L0 = mean_tokens sum_j 1[z_j > theta_j]`; the weight rises linearly from 0 over the first
    `l0_warmup_steps`. The jump has no gradient; that of its expectation is estimated from the `z` within
    `bandwidth / 2` of `theta`: `d latent / d theta = -theta / bandwidth`,
    `d 1[z > theta] / d theta = -1 / bandwidth`. Source: Rajamanoharan et al. 2024, "Jumping ahead",
    arXiv 2407.14435.

    Attributes:
        log_threshold: `[d_sae]`, logarithm of `theta` on normalised activations.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        l0_weight: weight of the penalty, >= 0.
        target_l0: active latents per token to be reached; `None` for as few as the weight makes of it.
        l0_warmup_steps: optimiser steps until the whole weight.
        bandwidth: width of the window around the threshold, > 0, in normalised units.
        threshold: thresholds at the start, > 0, in normalised units.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> sae = JumpReLU(d_in=2, d_sae=2, l0_weight=1e-3, threshold=0.5)
        >>> _ = sae.encoder.data.copy_(torch.eye(2))
        >>> sae.encode(torch.tensor([[1.0, 0.4]])).to_dense().tolist()
        [[1.0, 0.0]]
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        l0_weight: float,
        target_l0: float | None = None,
        l0_warmup_steps: int = 500,
        bandwidth: float = 1.0,
        threshold: float = 1.0,
        **options: Unpack[SAEOptions],
    ) -> None:
        super().__init__(d_in, d_sae, **options)
        check_penalty("l0", l0_weight, l0_warmup_steps)
        if bandwidth <= 0 or threshold <= 0 or (target_l0 is not None and target_l0 <= 0):
            raise ValueError(
                "bandwidth, threshold and target_l0 must be above 0, "
                f"got {bandwidth}, {threshold} and {target_l0}"
            )
        self.l0_weight, self.target_l0, self.l0_warmup_steps = l0_weight, target_l0, l0_warmup_steps
        self.bandwidth, self.threshold = bandwidth, threshold
        self.log_threshold = nn.Parameter(torch.full((d_sae,), math.log(threshold)))

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations `[n, d_in]`, above their thresholds."""
        pre_acts, _, joint = self.above(x - self.b_dec.detach(), self.log_threshold.exp())
        return joint.main.latents(pre_acts)

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the same, with entries of 0 just below the thresholds, and the penalty."""
        theta = self.log_threshold.exp()
        pre_acts, second, joint = self.above(centred, theta - self.bandwidth / 2, spare)
        values, active = _Jump.apply(pre_acts, theta[joint.main.indices], self.bandwidth)
        l0 = ranks.mean(active.sum() / max(1, len(centred)))
        penalty = l0 if self.target_l0 is None else (l0 / self.target_l0 - 1).square()
        weight = self.l0_weight * self._warmed_up(self.l0_warmup_steps)
        return Encoded(joint.main.latents(values), {"l0_penalty": (weight, penalty)}, second.relu(), joint)

    def rescale(self, factor: Tensor) -> None:
        """Multiply biases and thresholds."""
        super().rescale(factor)
        self.log_threshold.data.add_(factor.log())


class _Jump(torch.autograd.Function):
    """`(z * 1[z > theta], 1[z > theta])`, a rectangle in the place of the derivative of the jump."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        active = (z > theta).to(z)
        ctx.save_for_backward(z, theta, active)
        ctx.bandwidth = bandwidth
        return z.relu() * active, active

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_value: Tensor, grad_active: Tensor) -> tuple[Tensor | None, ...]:
        z, theta, active = ctx.saved_tensors
        near = ((z - theta).abs() < ctx.bandwidth / 2).to(z) / ctx.bandwidth
        return grad_value * active, -near * (grad_value * theta + grad_active), None
