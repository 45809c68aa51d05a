"""How well each image is reconstructed: what FVU and mean cosine are made of."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lightning_sae.metrics.shaped import ShapedMetric


class ImageErrors(ShapedMetric):
    """The squared error and the cosine of each image's reconstruction, over all batches and ranks.

    Args:
        n_images: of the split.

    Example:
        >>> errors = ImageErrors(n_images=2)
        >>> errors.update(torch.eye(2), torch.eye(2) / 2, image_ids=torch.tensor([1, 1]))
        >>> errors.compute()[0].tolist()
        [nan, 0.5]
    """

    is_differentiable = False
    full_state_update = False
    error: Tensor
    cosine: Tensor
    tokens: Tensor

    def __init__(self, n_images: int) -> None:
        super().__init__()
        for name in ("error", "cosine", "tokens"):
            self.add_state(name, torch.zeros(n_images, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Tensor, x_hat: Tensor, image_ids: Tensor) -> None:
        """Add activations and reconstructions `[n, d_in]` of the images `[n]`."""
        x, x_hat = x.double(), x_hat.double()
        self.error.index_add_(0, image_ids, (x - x_hat).square().sum(1))
        self.cosine.index_add_(0, image_ids, cosine_similarity(x, x_hat, dim=1))
        self.tokens.index_add_(0, image_ids, torch.ones_like(x[:, 0]))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the summed squared error and the mean cosine of each image's tokens, `[n_images]` each.

        An image that was not seen has NaN.
        """
        seen = self.tokens > 0
        return self.error.where(seen, torch.nan), (self.cosine / self.tokens).where(seen, torch.nan)
