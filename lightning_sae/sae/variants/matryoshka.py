"""Matryoshka BatchTopK: every prefix of the dictionary reconstructs by itself."""

from collections.abc import Sequence
from typing import Unpack

from lightning_sae.sae.base import SAEOptions
from lightning_sae.sae.variants.batch_topk import BatchTopK


class MatryoshkaBatchTopK(BatchTopK):
    """A BatchTopK autoencoder that is trained to reconstruct from each of several prefixes of its latents.

    `mse = mean_m ||x_n - latents[:m] @ W_dec[:m] - b_dec||^2 / (n d_in)` over the prefixes `m`. The first
    latents, which are in all of them, become the frequent and general ones; the last split them no more
    than they must. Source: Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse
    autoencoders", arXiv 2503.17547.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        k: mean number of active latents per token, in `1..d_sae`.
        prefixes: their ends as shares of `d_sae`, ascending, the last one 1.
        options: of every variant, see `SparseAutoencoder`.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> MatryoshkaBatchTopK(d_in=4, d_sae=32, k=2, prefixes=[0.25, 1.0]).ends
        (8, 32)
    """

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        k: int,
        prefixes: Sequence[float] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0),
        **options: Unpack[SAEOptions],
    ) -> None:
        super().__init__(d_in, d_sae, k, **options)
        self.prefixes = [float(share) for share in prefixes]
        ends = [round(share * d_sae) for share in self.prefixes]
        if ends != sorted({*ends}) or ends[:1] <= [0] or ends[-1] != d_sae:
            raise ValueError(
                f"prefixes must ascend from above 0 to 1 in steps of at least one of {d_sae} latents, "
                f"got {list(prefixes)}"
            )
        self.ends = tuple(ends)
