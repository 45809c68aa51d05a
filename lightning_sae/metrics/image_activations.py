"""The activations of images: the mean over an image's tokens, for a whole pass."""

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from lightning_sae.metrics.shaped import ShapedMetric


class ImageActivations(ShapedMetric):
    """The mean activation of every image of a pass, over all batches and ranks.

    It keeps a row per image: 3 kB at a width of 768.

    Example:
        >>> metric = ImageActivations()
        >>> metric.update(torch.tensor([[1.0], [5.0], [3.0]]), torch.tensor([7, 2, 7]))
        >>> [part.tolist() for part in metric.compute()]
        [[[5.0], [2.0]], [2, 7]]
    """

    is_differentiable = False
    full_state_update = False
    sums: list[Tensor]
    counts: list[Tensor]
    image_ids: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("sums", "counts", "image_ids"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, x: Tensor, image_ids: Tensor) -> None:
        """Add tokens `[t, d_in]` with the images `[t]` that they come from."""
        ids, image = torch.unique(image_ids, return_inverse=True)
        self.sums.append(
            x.new_zeros(len(ids), x.shape[1], dtype=torch.float32).index_add_(0, image, x.float())
        )
        self.counts.append(torch.bincount(image, minlength=len(ids)))
        self.image_ids.append(ids)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the means `[n, d_in]` float32, and the images' ids `[n]`, ascending."""
        sums, counts, image_ids = (dim_zero_cat(s) for s in (self.sums, self.counts, self.image_ids))
        ids, image = torch.unique(image_ids, return_inverse=True)
        total = sums.new_zeros(len(ids), sums.shape[1]).index_add_(0, image, sums)
        n = counts.new_zeros(len(ids)).index_add_(0, image, counts)
        return total / n[:, None], ids
