"""Dictionaries that learned nothing, as ordinary autoencoders: untrained rows, neurons, components."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_sae.baselines.covariance import normalised_covariance, principal_axes
from lightning_sae.sae import SparseAutoencoder, TopK
from lightning_sae.sae.initialisation import start_bias
from lightning_sae.training.module import SAMPLE, SAEModule

TOKENS = 4096  # activations by which the L0 of an autoencoder without a k is measured


def active_latents(sae: SparseAutoencoder, data: Any) -> int:
    """Return how many latents of an autoencoder are active per token; its baselines have as many.

    Args:
        sae: the trained autoencoder; a TopK gives its `k`, others their rounded mean on `train` activations.
        data: datamodule of the training.

    Returns:
        A number of at least 1, the same on every process.
    """
    if isinstance(sae, TopK):
        return sae.k
    x = data.sample(TOKENS).to(sae.W_dec.device)
    with torch.no_grad():
        active = (sae.encode(x).values > 0).sum()
    return max(1, round(int(active) / len(x)))


def untrained(module: SAEModule, data: Any, k: int) -> TopK:
    """Return the autoencoder of a training as it was before the first step.

    Args:
        module: module of the training.
        data: datamodule of the training, which is not used.
        k: active latents per token for a variant other than TopK; its rows and biases are put into a TopK.
    """
    start = module.untrained()
    if isinstance(start, TopK):
        return start
    return dictionary(start, start.W_dec.detach(), start.b_dec.detach(), k, start.encoder.detach())


def neurons(module: SAEModule, data: Any, k: int) -> TopK:
    """Return the layer's neurons as latents, two for each neuron: its excess over the mean and its deficit.

    There are `2 d_in` latents in normalised space, of which the `k` largest are active.

    Args:
        module: module whose normalisation the dictionary has.
        data: datamodule of the training.
        k: active latents per token; at most `d_in` are used, as more are never active.
    """
    statistics, sae = data.statistics, module.sae
    with torch.no_grad():
        sample = data.sample(SAMPLE).to(sae.mean) if sae.normalisation == "layer_norm" else None
        bias = start_bias(sae, "mean", statistics.mean.to(sae.mean), sample)
    return dictionary(sae, both_signs(torch.eye(sae.d_in)), bias, min(k, sae.d_in))


def components(module: SAEModule, data: Any, k: int) -> TopK:
    """Return the principal components of the train activations as latents, each with both signs.

    Args:
        module: module whose normalisation the dictionary has.
        data: datamodule of the training.
        k: active latents per token; at most `d_in` are used, as more are never active.
    """
    mean, covariance = normalised_covariance(module.sae, data)
    axes = principal_axes(covariance).float()
    return dictionary(module.sae, both_signs(axes), mean.float(), min(k, module.sae.d_in))


DICTIONARIES: dict[str, Callable[[SAEModule, Any, int], TopK]] = {
    "untrained": untrained,
    "neurons": neurons,
    "components": components,
}
"""Name -> function that makes the baseline from a module, a datamodule and the active latents per token."""


def both_signs(rows: Tensor) -> Tensor:
    """Return rows `[m, d]` and their negatives, `[2 m, d]`.

    Example:
        >>> both_signs(torch.eye(1)).tolist()
        [[1.0], [-1.0]]
    """
    return torch.cat([rows, -rows])


@torch.no_grad()
def dictionary(
    like: SparseAutoencoder, rows: Tensor, bias: Tensor, k: int, encoder: Tensor | None = None
) -> TopK:
    """Return a TopK whose rows are given, on the CPU in float32, ready to encode, decode and save.

    Args:
        like: autoencoder whose normalisation, selection and kernels the TopK has.
        rows: `[d_sae, d_in]` decoder rows of unit norm, in normalised space.
        bias: `[d_in]` bias of the decoder.
        k: active latents per token.
        encoder: `[d_sae, d_in]`; `None` takes `rows`.

    Example:
        >>> sae = dictionary(TopK(d_in=2, d_sae=8, k=2), both_signs(torch.eye(2)), torch.zeros(2), k=1)
        >>> sae.encode(torch.tensor([[1.0, -3.0]])).to_dense().tolist()
        [[0.0, 0.0, 0.0, 3.0]]
    """
    d_sae, d_in = rows.shape
    with torch.random.fork_rng(devices=[]):
        sae = TopK(
            d_in,
            d_sae,
            k,
            k_aux=0,
            selection=like.selection,
            kernels=like.kernels,
            normalisation=like.normalisation,
        )
    sae.set_normalisation(like.mean.cpu(), like.scale.cpu())
    sae.W_dec.copy_(rows)
    sae.encoder.copy_(rows if encoder is None else encoder)
    sae.b_dec.copy_(bias)
    return sae
