"""How latents drive the score: activation x gradient on active latents."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.classifiers.scores import ImageScore
from lightning_sae.sae.kernels.pattern import Pattern
from lightning_sae.sae.kernels.products import dot
from lightning_sae.types import SparseLatents

TailFunction = Callable[[Tensor, Tensor | None], Tensor]


def gradient(
    tail: TailFunction, x: Tensor, score: ImageScore, context: Tensor | None = None, batch_size: int = 64
) -> Tensor:
    """Return the gradient of each image's score to its activations, `g = dy/dx`.

    Works under `no_grad` and `inference_mode`, whatever of its arguments was made there.

    Args:
        tail: `(x, context)` to unit image embeddings `[n, d_embed]`, differentiable, each image on its own.
        x: `[n, t, d_in]` activations, `t` tokens an image.
        score: of the embeddings, from `make_score`.
        context: `[n, ...]`, what the tail needs beside `x`.
        batch_size: images at a time; the memory of the graph grows with it.

    Returns:
        `[n, t, d_in]`.
    """
    # tensors made in inference mode cannot enter a graph; their clones made outside of it can
    with torch.inference_mode(False), torch.enable_grad():
        result = torch.empty_like(x, requires_grad=False)
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            z = x[rows].detach().clone().requires_grad_()
            embeddings = tail(z, None if context is None else context[rows].detach().clone())
            (result[rows],) = torch.autograd.grad(score(embeddings, rows).sum(), z)
    return result


@torch.no_grad()
def attribute(latents: SparseLatents, W_dec: Tensor, g: Tensor) -> Tensor:
    """Return the activation x gradient of every active latent: `R_j = a_j * dy/da_j = a_j <w_j, g>`.

    Dreyer et al. 2025, arXiv 2505.20229. Cost and memory grow with the number of active latents: one pass
    over their decoder rows, none of them copied.

    Args:
        latents: latents of `n` tokens.
        W_dec: `[d_sae, d_in]`, decoder in the units of the raw activations.
        g: `[n, d_in]` gradient of the score to the token's activation.

    Returns:
        `[nnz]`, in the order of `latents.values`; `latents.with_values(...)` gives it rows.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[0.0, 2.0]]))
        >>> attribute(latents, torch.eye(2), torch.tensor([[5.0, -3.0]]))
        tensor([-6.])
    """
    pattern = Pattern.of(latents)
    return latents.values * dot(g, W_dec.contiguous(), pattern)


def token_sums(attributions: SparseLatents, latent: int | None = None) -> Tensor:
    """Return the attribution of every token, for heatmaps.

    Args:
        attributions: of `n` tokens, `latents.with_values(attribute(latents, ...))`.
        latent: the only latent that counts; `None`: the sum over all latents.

    Returns:
        `[n]`.

    Example:
        >>> attributions = SparseLatents.from_dense(torch.tensor([[1.0, 0.0, 2.0], [0.0, -4.0, 0.0]]))
        >>> token_sums(attributions), token_sums(attributions, latent=1)
        (tensor([ 3., -4.]), tensor([ 0., -4.]))
    """
    values = attributions.values
    if latent is not None:
        values = torch.where(attributions.indices == latent, values, 0.0)
    return values.new_zeros(len(attributions)).index_add_(0, attributions.rows(), values)


class Remainder(NamedTuple):
    """The part of `<x, g>` that the latents do not carry.

    Attributes:
        bias: `[n]`, `<b_dec, g>`.
        error: `[n]`, `<x - x_hat, g>`.
    """

    bias: Tensor
    error: Tensor


def remainder(x: Tensor, x_hat: Tensor, b_dec: Tensor, g: Tensor) -> Remainder:
    """Return the attribution of the decoder bias and of the reconstruction error.

    `sum_j R_j + R_bias + R_error = <x, g>`. Where the score does not change with the length of `x` (the
    tail of a ViT after its last block, up to the LayerNorm's eps), `<x, g> = 0` by Euler's theorem.

    Args:
        x: `[n, d_in]` activations.
        x_hat: `[n, d_in]` reconstructions.
        b_dec: `[d_in]` or `[n, d_in]`, the reconstruction of no latents at all, in the units of `x`.
        g: `[n, d_in]` gradient of the score.

    Example:
        >>> x, x_hat = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])
        >>> remainder(x, x_hat, torch.tensor([1.0, 0.0]), torch.tensor([[-4.0, 3.0]]))
        Remainder(bias=tensor([-4.]), error=tensor([3.]))
    """
    return Remainder((g * b_dec).sum(1), ((x - x_hat) * g).sum(1))
