"""TopK: the k largest pre-activations of each token are its latents."""

from typing import Unpack

from torch import Tensor

from lightning_sae.sae.base import Encoded, SAEOptions, SparseAutoencoder, check_k
from lightning_sae.sae.kernels.topk_selection import Spare
from lightning_sae.types import SparseLatents


class TopK(SparseAutoencoder):
    """Autoencoder whose `k` largest pre-activations per token survive, then a ReLU.

    `latents = ReLU(TopK((x_n - b_dec) @ W_enc + b_enc))`. Source: Gao et al. 2024, "Scaling and evaluating
    sparse autoencoders", arXiv 2406.04093. Between equal pre-activations the choice is unspecified.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        k: largest number of active latents per token, in `1..d_sae`.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> sae = TopK(d_in=4, d_sae=8, k=2)
        >>> x_hat, latents = sae(torch.ones(3, 4))
        >>> x_hat.shape, latents.values.shape
        (torch.Size([3, 4]), torch.Size([6]))
    """

    def __init__(self, d_in: int, d_sae: int, k: int, **options: Unpack[SAEOptions]) -> None:
        super().__init__(d_in, d_sae, **options)
        check_k(k, d_sae)
        self.k = k

    def encode_normalised(self, x: Tensor) -> SparseLatents:
        """Return the latents of normalised activations `[n, d_in]`: `k` entries per token, >= 0."""
        pre_acts, _, joint = self.largest(x - self.b_dec.detach(), self.k)
        return joint.main.latents(pre_acts.relu())

    def encode_training(self, centred: Tensor, spare: Spare | None = None) -> Encoded:
        """Return the same, and the largest dead ones."""
        pre_acts, second, joint = self.largest(centred, self.k, spare)
        return Encoded(joint.main.latents(pre_acts.relu()), {}, second.relu(), joint)
