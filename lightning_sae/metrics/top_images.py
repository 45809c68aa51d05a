"""The images that activate each latent most."""

import torch
from torch import Tensor

from lightning_sae.metrics.shaped import ShapedMetric
from lightning_sae.types import SparseLatents


def top_images(latents: SparseLatents, image_ids: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the `n` images with the largest activation of each latent: the maximum over an image's tokens.

    Between equal activations the lower image id comes first.

    Args:
        latents: of `t` tokens.
        image_ids: `[t]` int64 >= 0.
        n: images per latent.

    Returns:
        Activations `[d_sae, n]` float32, descending, and image ids `[d_sae, n]` int64; 0 and -1 where there
        are fewer.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 5.0]]))
        >>> values, image_ids = top_images(latents, torch.tensor([7, 7, 8]), n=2)
        >>> image_ids.tolist()
        [[7, 8], [8, -1]]
        >>> values[0].tolist()
        [3.0, 2.0]
    """
    metric = TopImages(n, latents.d_sae).to(latents.values.device)
    metric.update(latents, image_ids)
    result: tuple[Tensor, Tensor] = metric.compute()
    return result


def rank_candidates(
    latent: Tensor, image: Tensor, value: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best `n` images of each latent among candidates.

    They are found by sorting, so the cost grows with the number of candidates only.

    Args:
        latent: `[m]` int64.
        image: `[m]` int64; an image may be there several times, its largest value counts.
        value: `[m]` > 0.
        n: images per latent.

    Returns:
        `(latent, rank, image, value)`, each `[m']`; rank in `0..n-1`, 0 for the largest value.

    Example:
        >>> latent, image = torch.tensor([4, 4, 4]), torch.tensor([9, 2, 9])
        >>> [t.tolist() for t in rank_candidates(latent, image, torch.tensor([1.0, 1.0, 0.5]), n=2)]
        [[4, 4], [0, 1], [2, 9], [1.0, 1.0]]
    """
    if not len(latent):
        return latent, latent, image, value
    span = int(image.max()) + 1
    keys, group = torch.unique(latent * span + image, return_inverse=True)  # ascending by latent, image
    value = value.new_zeros(len(keys)).scatter_reduce(0, group, value, "amax")
    order = value.argsort(descending=True, stable=True)
    order = order[torch.div(keys[order], span, rounding_mode="floor").argsort(stable=True)]
    latent, image, value = torch.div(keys, span, rounding_mode="floor"), keys % span, value[order]
    _, counts = torch.unique_consecutive(latent, return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.arange(len(latent), device=latent.device) - starts
    keep = rank < n
    return latent[keep], rank[keep], image[order][keep], value[keep]


class TopImages(ShapedMetric):
    """`top_images` over all batches and ranks; the tokens of an image may be spread over batches.

    Args:
        n: images per latent, at least 1.
        d_sae: number of latents.

    Raises:
        ValueError: `n` below 1.
    """

    is_differentiable = False
    full_state_update = True
    values: Tensor
    image_ids: Tensor

    def __init__(self, n: int, d_sae: int) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"n, the images per latent, must be at least 1, got {n}")
        self.n = n
        self.add_state("values", torch.zeros(d_sae, n), dist_reduce_fx=None)
        self.add_state("image_ids", torch.full((d_sae, n), -1), dist_reduce_fx=None)

    def update(self, latents: SparseLatents, image_ids: Tensor) -> None:
        """Add tokens with the images `[t]` that they come from."""
        value = latents.values.float()
        candidate = (value > 0) & (value >= self.values[latents.indices, -1])
        latent, value = latents.indices[candidate], value[candidate]
        image = image_ids[latents.rows()[candidate]]
        self._merge(latent, image, value)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the activations and image ids, both `[d_sae, n]`."""
        if self.values.ndim == 2:
            return self.values.clone(), self.image_ids.clone()
        values, image_ids = self.values.flatten(0, 1), self.image_ids.flatten(0, 1)  # [ranks * d_sae, n]
        row, column = (image_ids >= 0).nonzero(as_tuple=True)
        d_sae = self.values.shape[1]
        merged = rank_candidates(row % d_sae, image_ids[row, column], values[row, column], self.n)
        return _table(merged, d_sae, self.n)

    def _merge(self, latent: Tensor, image: Tensor, value: Tensor) -> None:
        touched = torch.unique(latent)
        kept_ids, kept_values = self.image_ids[touched], self.values[touched]
        row, column = (kept_ids >= 0).nonzero(as_tuple=True)
        latent, rank, image, value = rank_candidates(
            torch.cat([latent, touched[row]]),
            torch.cat([image, kept_ids[row, column]]),
            torch.cat([value, kept_values[row, column]]),
            self.n,
        )
        self.values[latent, rank] = value
        self.image_ids[latent, rank] = image


def _table(ranked: tuple[Tensor, Tensor, Tensor, Tensor], d_sae: int, n: int) -> tuple[Tensor, Tensor]:
    latent, rank, image, value = ranked
    values, image_ids = value.new_zeros(d_sae, n), image.new_full((d_sae, n), -1)
    values[latent, rank] = value
    image_ids[latent, rank] = image
    return values, image_ids


def id_texts(image_ids: Tensor) -> list[str]:
    """Return each row of image ids as a table shows it, without the missing ones (-1).

    Example:
        >>> import torch
        >>> id_texts(torch.tensor([[7, 3], [5, -1]]))
        ['7 3', '5']
    """
    return [" ".join(str(i) for i in row if i >= 0) for row in image_ids.tolist()]
