"""BatchTopK: the k largest pre-activations per token on average, of a whole batch."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_sae.sae import ranks
from lightning_sae.sae.base import Options, Penalties, SparseAutoencoder
from lightning_sae.sae.entries import select_largest
from lightning_sae.types import SparseLatents

MEMORY = 0.99  # of the mean over batches that is the threshold


class BatchTopK(SparseAutoencoder):
    """Autoencoder whose `n k` largest pre-activations of a batch of `n` tokens survive, then a ReLU.

    The batch is that of all ranks; between equal pre-activations the first ones survive.

    `latents = ReLU(BatchTopK((x_n - b_dec) @ W_enc + b_enc))` in training. In use each token stands for
    itself: latents are the pre-activations above `threshold`, a running mean over batches of the smallest
    latent. Before the first batch they are the `k` largest. Source: Bussmann et al. 2024, "BatchTopK sparse
    autoencoders", arXiv 2412.06410.

    Attributes:
        threshold: scalar buffer >= 0 on normalised activations; 0 before the first batch.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        k: mean number of active latents per token, in `1..d_sae`.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> sae = BatchTopK(d_in=4, d_sae=8, k=2)
        >>> latents, _ = sae.encode_training(torch.randn(5, 4))
        >>> latents.values.shape
        torch.Size([10])
    """

    threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, k: int, **options: Unpack[Options]) -> None:
        super().__init__(d_in, d_sae, **options)
        if not 1 <= k <= d_sae:
            raise ValueError(f"k must be in 1..d_sae={d_sae}, got {k}")
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Latents of normalised activations `[n, d_in]`, above the threshold."""
        if self.threshold > 0:
            pre_acts, pattern = self._above(x, self.threshold)
            return pattern.latents(pre_acts)
        pre_acts, pattern = self.largest(x, self.b_dec, None, self.k)
        return pattern.latents(pre_acts.relu())

    def encode_training(self, x: Tensor) -> tuple[SparseLatents, Penalties]:
        """The largest of the batch, `k` per token on average; moves the threshold."""
        centred = x - self.b_dec.detach()
        known, pattern = select_largest(centred, self.encoder, self.b_enc, self.k * len(x), self.workspace)
        values = self._with_gradient(known, centred, self.b_dec, pattern).relu()
        self._move_threshold(values.detach())
        return pattern.latents(values), {}

    def rescale(self, factor: Tensor) -> None:
        """Multiplies biases and threshold."""
        super().rescale(factor)
        self.threshold.mul_(factor.mean())

    @torch.no_grad()
    def _move_threshold(self, values: Tensor) -> None:
        active = torch.cat([values[values > 0], values.new_full((1,), torch.inf)])
        smallest = ranks.minimum(active.amin())
        moved = torch.where(self.threshold > 0, self.threshold.lerp(smallest, 1 - MEMORY), smallest)
        self.threshold.copy_(torch.where(smallest.isfinite(), moved, self.threshold))
