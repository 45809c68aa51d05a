"""Shapley values of the active latents: the effect of each, averaged over sets of others that are present."""

import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.faithfulness import curves, ranking
from lightning_sae.attribution.methods import Random
from lightning_sae.classifiers.scores import ImageScore


class Shapley:
    """Mean of `y(S with j) - y(S)` over the sets `S` of latents that precede `j` in random orders.

    A latent that is not in `S` is ablated; the error term and the bias stay. The values of an image sum to
    `y(x) - y(x - sum_j a_j w_j)` exactly. By sampling: Castro et al. 2009, Computers and Operations Research
    36; each order is followed from both ends.

    Args:
        orders: random orders of an image's active latents; each costs twice as many runs of the tail as there
            are active latents.
        seed: of the first order.
        batch_size: edited images in one call of the tail.

    Raises:
        ValueError: fewer than one order.
    """

    name = "shapley"

    def __init__(self, orders: int = 16, seed: int = 0, batch_size: int = 1024) -> None:
        if orders < 1:
            raise ValueError(f"orders must be at least 1, got {orders}")
        self.orders, self.seed, self.batch_size = orders, seed, batch_size

    def __call__(self, explained: Explained, score: ImageScore) -> Tensor:
        """Return `[nnz]`, 0 where the latent is not active."""
        latents, tokens = explained.latents, explained.x.shape[1]
        active = torch.bincount(explained.image_rows()[latents.values > 0], minlength=len(explained.x))
        steps = max(1, int(active.max()))  # one latent a step
        total = torch.zeros_like(latents.values)
        for order in range(self.orders):
            noise = Random(self.seed + order)(explained, score)
            found = curves(explained, noise, score, steps, self.batch_size)
            entries = ranking(latents, noise, tokens)
            image = explained.image_rows()[entries]
            place = torch.arange(len(entries), device=image.device) - (active.cumsum(0) - active)[image]
            step = ((place + 1) * steps + active[image] - 1) // active[image]
            gone = found.deletion[image, step - 1] - found.deletion[image, step]
            back = found.insertion[image, step] - found.insertion[image, step - 1]
            total[entries] += (gone + back) / 2
        return total / self.orders
