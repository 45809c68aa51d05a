"""ReLU with an L1 penalty: the classical sparse autoencoder."""

from typing import Unpack

from torch import Tensor

from lightning_sae.sae.base import Encoded, SAEOptions, SparseAutoencoder, check_penalty
from lightning_sae.sae.kernels.topk_selection import Spare
from lightning_sae.types import SparseLatents


class ReLU(SparseAutoencoder):
    """Autoencoder whose positive pre-activations are its latents, kept few by a penalty on their sum.

    `latents = ReLU((x_n - b_dec) @ W_enc + b_enc)`, loss `mse + l1_weight * mean_tokens sum_j latents_j`, the
    weight rising linearly from 0 over the first `l1_warmup_steps`. Source: Bricken et al. 2023, "Towards
    Monosemanticity"; Cunningham et al. 2023, arXiv 2309.08600.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        l1_weight: weight of the penalty, >= 0, in normalised units.
        l1_warmup_steps: optimiser steps until the whole weight.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> sae = ReLU(d_in=4, d_sae=8, l1_weight=1e-3)
        >>> bool((sae.encode(torch.randn(3, 4)).values > 0).all())
        True
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

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations `[n, d_in]`, > 0."""
        pre_acts, _, joint = self.above(x - self.b_dec.detach(), 0.0)
        return joint.main.latents(pre_acts)

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the same, and the penalty."""
        pre_acts, second, joint = self.above(centred, 0.0, spare)
        weight = self.l1_weight * self._warmed_up(self.l1_warmup_steps)
        penalty = pre_acts.sum() / max(1, len(centred))
        return Encoded(joint.main.latents(pre_acts), {"l1": (weight, penalty)}, second.relu(), joint)
