"""What arrives at latents from an earlier hook point: edges by the true gradient, means over images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_sae.attribution.edges.edges import edges_to_latents
from lightning_sae.attribution.edges.layers import Layer, look
from lightning_sae.attribution.edges.passes import BESIDE
from lightning_sae.attribution.explained import CHUNK
from lightning_sae.runs.folder import RunFolder
from lightning_sae.runs.layers import RunLayer


class Arriving(NamedTuple):
    """Mean edges into one latent over the images on which it is active.

    Attributes:
        images: how many these are.
        latents: `[d_sae]` float64, from the latents of the earlier hook point.
        beside: `[3]`, from its error, its bias, and tokens that it does not select (`BESIDE`).
    """

    images: int
    latents: Tensor
    beside: Tensor

    @property
    def total(self) -> float:
        """The sum of all magnitudes."""
        return float(self.latents.abs().sum() + self.beside.abs().sum())

    @property
    def profile(self) -> Tensor:
        """The magnitude from each latent, `[d_sae]`, as a share of those from all latents.

        Example:
            >>> Arriving(9, torch.tensor([3.0, -1.0, 0.0]), torch.zeros(3)).profile
            tensor([0.7500, 0.2500, 0.0000])
        """
        return self.latents.abs() / self.latents.abs().sum().clamp(min=1e-12)


@torch.no_grad()
def arriving(run: RunFolder, early: RunLayer, ids: Tensor, latents: Sequence[int]) -> dict[int, Arriving]:
    """Return what arrives at latents of a run's hook point from an earlier one.

    The edges are activation x gradient by the true gradient, which agrees with the removal of one source
    better than the frozen rule (`docs/edges.md`).

    Args:
        run: whose latents.
        early: the earlier hook point.
        ids: `[n]` int64, validation images.
        latents: each once.

    Returns:
        The mean edges by latent; a latent that is active on none of the images is left out.

    Raises:
        ValueError: hook points of different towers or out of order, or an autoencoder of other tokens.
    """
    layers = [early, Layer(run.data.hook, run.sae)]
    place = torch.full((run.sae.d_sae,), -1).index_copy(0, torch.tensor(latents), torch.arange(len(latents)))
    sums = torch.zeros(len(latents), early.sae.d_sae, dtype=torch.float64)
    beside = torch.zeros(len(latents), len(BESIDE), dtype=torch.float64)
    images = torch.zeros(len(latents), dtype=torch.int64)
    for part in torch.split(ids, CHUNK):
        seen, later = look(run.data.clip, layers, _pixels(run, part))
        found, targets = edges_to_latents(seen, later, rule="gradient", chosen=place >= 0)
        row = place[targets.node.cpu()]
        pairs = found.pairs
        sums.index_put_((row[pairs.target.cpu()], pairs.source.cpu()), pairs.value.cpu(), accumulate=True)
        beside.index_add_(0, row, found.beside.cpu().double())
        images += torch.bincount(row, minlength=len(latents))
    return {
        j: Arriving(n, sums[k] / n, beside[k] / n)
        for k, (j, n) in enumerate(zip(latents, images.tolist(), strict=True))
        if n
    }


def _pixels(run: RunFolder, ids: Tensor) -> Tensor:
    """Return validation images as the CLIP takes them, `[n, 3, H, W]`."""
    images = run.data.images("val")
    return torch.stack([run.data.clip.preprocess(images[i]) for i in ids.tolist()])
