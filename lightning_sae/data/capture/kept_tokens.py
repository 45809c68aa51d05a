"""A few tokens of each image instead of all: the same ones in every capture."""

import numpy as np
import torch
from torch import Tensor

from lightning_sae.data.hashing import hash_numbers


def kept_tokens(image_ids: Tensor, tokens: int, n_kept: int) -> Tensor:
    """Return which tokens of each image are kept, `[m, n_kept]` int64, ascending, without replacement.

    They are those with the smallest hashes of (image id, token): uniform, and a function of the image id
    alone, whatever the batch, the shard or the version of a random generator.

    Args:
        image_ids: `[m]` int64 >= 0.
        tokens: tokens that each image has.
        n_kept: how many are kept, in `1..tokens`.

    Raises:
        ValueError: `n_kept` is out of range.

    Example:
        >>> kept_tokens(torch.tensor([0, 1]), tokens=49, n_kept=3)
        tensor([[ 2, 33, 42],
                [ 4, 45, 46]])
    """
    if not 1 <= n_kept <= tokens:
        raise ValueError(
            f"tokens_per_image must be in 1..{tokens}, the tokens that each image has at this hook point, "
            f"got {n_kept}; null keeps them all"
        )
    keys = image_ids.numpy()[:, None] * tokens + np.arange(tokens)
    chosen = np.argsort(hash_numbers(keys), axis=1, kind="stable")[:, :n_kept]
    return torch.from_numpy(np.sort(chosen, axis=1))


def keep_tokens(x: Tensor, image_ids: Tensor, n_kept: int | None) -> Tensor:
    """Return the kept tokens `[m, n_kept, d]` of `x [m, tokens, d]`; `n_kept=None` keeps all."""
    if n_kept is None:
        return x
    chosen = kept_tokens(image_ids, x.shape[1], n_kept)
    if x.is_cuda:
        chosen = chosen.pin_memory()  # so that the device is not waited for
    chosen = chosen.to(x.device, non_blocking=x.is_cuda)
    return x.take_along_dim(chosen[:, :, None], dim=1)
