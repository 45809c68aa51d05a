"""AuxK: dead latents learn what they would have to take over."""

import torch
from torch import Tensor

from lightning_sae.sae.kernels import distributed as ranks
from lightning_sae.sae.kernels.reconstruction import Errors, SpareTask

ROUNDING = 8  # steps of the last bit by which the mean of equal numbers may differ from them


def aux_loss(errors: Errors, task: SpareTask) -> Tensor:
    """Return how badly the `k_aux` largest dead latents rebuild what they would have to take over.

    `sum ||t - t_hat||^2 / sum ||t - mean(t)||^2` over the batch, of all ranks, `t = x - x_hat + a_i w_i` with
    the smallest active latent `i` of the token. Its gradient reaches encoder rows, encoder biases and decoder
    rows of the selected dead latents and nothing else. Zero if no latent is dead or `t` is constant.

    Source: Gao et al. 2024, arXiv 2406.04093, whose `t` is `x - x_hat` alone and whose `k_aux` is `d_in / 2`.
    If many dead latents together only rebuild what is left, they learn pre-activations that are too small to
    be selected, and stay dead. A single one that competes for the last place takes that place where it does
    better.

    Args:
        errors: of a batch.
        task: of the dead latents.
    """
    target = errors.target.float() if errors.target.itemsize < 4 else errors.target
    variance = ranks.mean((target - ranks.mean(target.mean(0))).square().sum())
    rounding = (ROUNDING * torch.finfo(target.dtype).eps) ** 2 * ranks.mean(target.square().sum())
    there_is = (variance > rounding) & (task.n_kept > 0)
    return errors.spare * torch.where(there_is, variance, torch.inf).reciprocal()
