"""TopK: the k largest pre-activations of each token are its latents."""

from typing import get_args

import torch
from torch import Tensor

from lightning_sae.sae.base import SparseAutoencoder
from lightning_sae.sae.kernels import pre_activations
from lightning_sae.sae.pattern import Pattern
from lightning_sae.sae.selection import Selection, select
from lightning_sae.types import SparseLatents


class TopK(SparseAutoencoder):
    """Autoencoder whose `k` largest pre-activations per token survive, then a ReLU.

    `latents = ReLU(TopK((x_n - b_dec) @ W_enc + b_enc))`. Training adds AuxK, which lets the dead latents
    rebuild what the living ones leave over (`extra_loss`). Source: Gao et al. 2024, "Scaling and evaluating
    sparse autoencoders", arXiv 2406.04093. Between equal pre-activations the choice is unspecified.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        k: largest number of active latents per token, in `1..d_sae`.
        k_aux: dead latents that AuxK uses per token; `None` for `d_in / 2`, 0 for no AuxK.
        aux_weight: weight of AuxK in the loss, >= 0.
        dead_after: tokens without a firing after which a latent counts as dead.
        selection: how the largest are found, see `select`: `exact`; `screened` by a product in bf16;
            `checked`, a screening that is proven right; `auto`, a screening where bf16 is fast.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> sae = TopK(d_in=4, d_sae=8, k=2)
        >>> x_hat, latents = sae(torch.ones(3, 4))
        >>> x_hat.shape, latents.values.shape
        (torch.Size([3, 4]), torch.Size([6]))
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        k: int,
        k_aux: int | None = None,
        aux_weight: float = 1 / 32,
        dead_after: int = 1_000_000,
        selection: Selection = "auto",
    ) -> None:
        super().__init__(d_in, d_sae, dead_after)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k must be in 1..d_sae={d_sae}, got {k}")
        k_aux = max(1, d_in // 2) if k_aux is None else k_aux
        if k_aux < 0 or aux_weight < 0:
            raise ValueError(f"k_aux and aux_weight must be at least 0, got {k_aux} and {aux_weight}")
        if selection not in get_args(Selection):
            raise ValueError(f"selection must be one of {', '.join(get_args(Selection))}, got {selection}")
        self.k, self.k_aux, self.aux_weight, self.selection = k, k_aux, aux_weight, selection

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Latents of normalised activations `[n, d_in]`: `k` entries per token, >= 0."""
        values, pattern = self._largest(x, self.b_dec, None, self.k)
        return SparseLatents(values, pattern.indices, pattern.offsets, self.d_sae)

    def extra_loss(self, x: Tensor, residual: Tensor) -> dict[str, tuple[float, Tensor]]:
        """AuxK: how badly the `k_aux` largest dead latents rebuild the residual `e = x - x_hat`.

        `sum ||e - e_hat||^2 / sum ||e - mean(e)||^2` over the batch, `e` detached. Its gradient reaches
        encoder rows, encoder biases and decoder rows of the selected dead latents and nothing else. Zero if
        no latent is dead or the residual is constant.

        Args:
            x: `[n, d_in]`, normalised.
            residual: `[n, d_in]`.
        """
        residual = residual.detach()
        dead = self.dead.nonzero().squeeze(1)
        k = min(self.k_aux, len(dead))
        if k == 0 or self.aux_weight == 0:
            return {"aux": (0.0, residual.new_zeros(()))}
        values, pattern = self._largest(x.detach(), self.b_dec.detach(), dead, k)
        error = residual - self._rebuild(values, pattern)
        variance = (residual - residual.mean(0)).square().sum()
        inverse = torch.where(variance > 0, variance, torch.inf).reciprocal()
        return {"aux": (self.aux_weight, error.square().sum() * inverse)}

    def _largest(self, x: Tensor, shift: Tensor, among: Tensor | None, k: int) -> tuple[Tensor, Pattern]:
        """Activations `[n * k]` of the `k` largest latents of each token, or of those that `among` names."""
        centred = x - shift.detach()
        rows, bias = (p if among is None else p.detach()[among] for p in (self.encoder, self.b_enc))
        indices, pre_acts = select(centred, rows, bias, k, self.selection, self.workspace)
        pattern = Pattern.from_topk(indices if among is None else among[indices], self.d_sae)
        known = pre_acts.view(-1)
        found = pre_activations(known, centred, shift, self.encoder, self.b_enc, pattern, self.workspace)
        return found.relu(), pattern
