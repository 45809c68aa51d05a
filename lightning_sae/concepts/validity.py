"""Is the label right? How well its text predicts the latent's firing on images that did not choose it."""

import numpy as np
import torch
from torch import Tensor

from lightning_sae.types import SparseLatents


def label_validity(
    latents: SparseLatents,
    image_ids: Tensor,
    top_images: Tensor,
    label: Tensor,
    texts: Tensor,
    embeddings: Tensor,
    min_images: int = 5,
    chunk_size: int = 64,
) -> Tensor:
    """Return AUROC of a label's text similarity `e_i . t` for the latent's firing on held-out images.

    Held out are all images but the latent's top images, which chose the label. Exact, ties counted half
    (Mann-Whitney U): one sort of the images per label in use and one search per active latent, never
    `[n, d_sae]`.

    Args:
        latents: of `n` images, such as from `max_over_tokens`.
        image_ids: `[n]` int64, ascending, rows of `embeddings`.
        top_images: `[d_sae, top_n]` int64, the images that chose the label, among those on which the latent
            fires; -1 where there are fewer.
        label: `[d_sae]` int64 into `texts`; any where there is no top image.
        texts: `[V, d]` unit text embeddings.
        embeddings: `[n_images, d]` unit image embeddings.
        min_images: held-out images that a latent must fire on, at least 1.
        chunk_size: labels at a time; memory grows with `chunk_size * n`.

    Returns:
        `[d_sae]` float64 in 0..1; NaN where a latent fires on fewer held-out images, or on all images.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
        >>> latents = SparseLatents.from_dense(torch.tensor([[9.0], [0.0], [1.0], [0.0]]))
        >>> text, label = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
        >>> label_validity(latents, torch.arange(4), torch.tensor([[0]]), label, text, embeddings, 1).item()
        0.5
    """
    n, (latent, row) = len(image_ids), _firings(latents)
    similarity, wins = _compare(row, label[latent], texts, embeddings[image_ids], chunk_size)
    chosen = top_images >= 0
    column = torch.searchsorted(image_ids, top_images.clamp(min=0))
    keys = torch.arange(latents.d_sae, device=column.device)[:, None] * n + column
    position = torch.searchsorted(latent * n + row, keys[chosen])
    held_out = torch.ones_like(latent, dtype=torch.bool)
    held_out[position] = False
    top_similarity = similarity.new_full(top_images.shape, torch.inf)
    top_similarity[chosen] = similarity[position]
    for top in top_similarity.T:  # to beat a top image is no win: it is neither held out nor silent
        wins -= _half_ties(top[latent], similarity)
    return _auroc(latent, held_out, wins, n, latents.d_sae, min_images)


def _firings(latents: SparseLatents) -> tuple[Tensor, Tensor]:
    """Return which latent fires in which row, `[m]` each, ascending by latent, then row."""
    active = latents.values > 0
    keys = (latents.indices[active] * len(latents) + latents.rows()[active]).sort().values
    latent = torch.div(keys, len(latents), rounding_mode="floor")
    return latent, keys - latent * len(latents)


def _compare(
    row: Tensor, label: Tensor, texts: Tensor, embeddings: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Return the similarity of rows with their labels, and how many of all rows have a smaller one.

    Both are `[m]`; a row with an equal similarity counts half.
    """
    order = label.argsort(stable=True)
    used, counts = torch.unique_consecutive(label[order], return_counts=True)
    similarity, wins = embeddings.new_empty(len(row)), embeddings.new_empty(len(row), dtype=torch.float64)
    members = torch.split(order, counts.tolist())
    for start in range(0, len(used), chunk_size):
        scores = texts[used[start : start + chunk_size]] @ embeddings.T
        for one, ascending, mine in zip(scores, _sorted(scores), members[start:], strict=False):
            similarity[mine] = s = one[row[mine]]
            below = torch.searchsorted(ascending, s) + torch.searchsorted(ascending, s, right=True)
            wins[mine] = below.double() / 2
    return similarity, wins


def _sorted(scores: Tensor) -> Tensor:
    """Return each row in ascending order."""
    if scores.device.type == "cpu":  # where numpy sorts 16 times as fast as torch
        return torch.from_numpy(np.sort(scores.numpy(), axis=1))
    return scores.sort(dim=1).values


def _half_ties(less: Tensor, than: Tensor) -> Tensor:
    return (less < than).double() + (less == than).double() / 2


def _auroc(latent: Tensor, held_out: Tensor, wins: Tensor, n: int, d_sae: int, min_images: int) -> Tensor:
    """Return the share of pairs of a held-out row and a silent row that the held-out row wins.

    It is computed from the wins of the held-out rows over rows of both kinds.
    """
    silent = n - torch.bincount(latent, minlength=d_sae).double()
    positives = torch.bincount(latent[held_out], minlength=d_sae).double()
    among_themselves = positives**2 / 2  # each pair once, each with itself half
    total = torch.bincount(latent[held_out], wins[held_out], minlength=d_sae) - among_themselves
    return torch.where(positives >= max(min_images, 1), total / (positives * silent), torch.nan)
