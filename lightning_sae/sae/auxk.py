"""AuxK: dead latents learn what they would have to take over."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_sae.sae import ranks
from lightning_sae.types import SparseLatents

if TYPE_CHECKING:
    from lightning_sae.sae.base import SparseAutoencoder


def aux_loss(sae: "SparseAutoencoder", x: Tensor, latents: SparseLatents, residual: Tensor) -> Tensor:
    """How badly the `k_aux` largest dead latents rebuild what they would have to take over.

    `sum ||t - t_hat||^2 / sum ||t - mean(t)||^2` over the batch, of all ranks, `t = x - x_hat + a_i w_i` with
    the smallest active latent `i` of the token. Its gradient reaches encoder rows, encoder biases and decoder
    rows of the selected dead latents and nothing else. Zero if no latent is dead or `t` is constant.

    Source: Gao et al. 2024, arXiv 2406.04093, whose `t` is `x - x_hat` alone and whose `k_aux` is `d_in / 2`.
    To rebuild only what is left, by many latents together, dead ones learn pre-activations that are too small
    to be selected, and stay dead. With one latent that competes for the last place, it takes the place where
    it does better.

    Args:
        sae: in training.
        x: `[n, d_in]`, normalised.
        latents: in normalised units.
        residual: `[n, d_in]`, `x - x_hat`.
    """
    dead = sae.dead.nonzero().squeeze(1)
    k = min(sae.k_aux, len(dead))
    if k == 0:
        return residual.new_zeros(())
    target = with_smallest(latents, residual.detach(), sae.W_dec)
    pre_acts, pattern = sae.largest(x.detach(), sae.b_dec.detach(), dead, k)
    error = target - sae.rebuild(pre_acts.relu(), pattern)
    variance = ranks.mean((target - ranks.mean(target.mean(0))).square().sum())
    inverse = torch.where(variance > 0, variance, torch.inf).reciprocal()
    return error.square().sum() * inverse


@torch.no_grad()
def with_smallest(latents: SparseLatents, residual: Tensor, rows: Tensor) -> Tensor:
    """The residual if the smallest active latent of each token were not there, `[n, d]`.

    Args:
        latents: of `n` tokens.
        residual: `[n, d]`.
        rows: `[d_sae, d]`, decoder.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[3.0, 2.0], [0.0, 0.0]]))
        >>> with_smallest(latents, torch.zeros(2, 2), torch.eye(2)).tolist()
        [[0.0, 2.0], [0.0, 0.0]]
    """
    tokens, values = latents.rows(), torch.where(latents.values > 0, latents.values, torch.inf)
    smallest = values.new_full((len(latents),), torch.inf).scatter_reduce_(0, tokens, values, "amin")
    chosen = ((values == smallest[tokens]) & values.isfinite()).nonzero().squeeze(1)
    parts = values[chosen, None] * rows[latents.indices[chosen]]
    return residual.index_add(0, tokens[chosen], parts)
