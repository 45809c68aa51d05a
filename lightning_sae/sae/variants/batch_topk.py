"""BatchTopK: the k largest pre-activations per token on average, of a whole batch."""

from typing import Unpack

import torch
from torch import Tensor

from lightning_sae.sae.base import Encoded, SAEOptions, SparseAutoencoder, check_k
from lightning_sae.sae.kernels import distributed as ranks
from lightning_sae.sae.kernels.topk_selection import Spare
from lightning_sae.sae.kernels.value_selection import select_largest
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
        >>> latents = sae.encode_training(torch.randn(5, 4)).latents
        >>> latents.values.shape
        torch.Size([10])
    """

    threshold: Tensor

    def __init__(self, d_in: int, d_sae: int, k: int, **options: Unpack[SAEOptions]) -> None:
        super().__init__(d_in, d_sae, **options)
        check_k(k, d_sae)
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations `[n, d_in]`, above the threshold."""
        centred = x - self.b_dec.detach()
        if self.threshold > 0:
            pre_acts, _, joint = self.above(centred, self.threshold)
            return joint.main.latents(pre_acts)
        pre_acts, _, joint = self.largest(centred, self.k)
        return joint.main.latents(pre_acts.relu())

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the largest of the batch, `k` per token on average; move the threshold."""
        count = self.k * len(centred)
        arguments = self.encoder, self.b_enc, count, self.selection, self.workspace, self.kernels, spare
        known, pattern, second = select_largest(centred, *arguments)
        pre_acts, others, joint = self.with_gradient(known, pattern, second, centred)
        values = pre_acts.relu()
        self._move_threshold(values.detach())
        return Encoded(joint.main.latents(values), {}, others.relu(), joint)

    def rescale(self, factor: Tensor) -> None:
        """Multiply biases and threshold."""
        super().rescale(factor)
        self.threshold.mul_(factor.mean())

    @torch.no_grad()
    def _move_threshold(self, values: Tensor) -> None:
        active = torch.where(values > 0, values, torch.inf)
        smallest = ranks.minimum(torch.cat([active, active.new_full((1,), torch.inf)]).amin())
        moved = torch.where(self.threshold > 0, self.threshold.lerp(smallest, 1 - MEMORY), smallest)
        self.threshold.copy_(torch.where(smallest.isfinite(), moved, self.threshold))
