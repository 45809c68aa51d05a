"""The latents of images as nodes: one a latent, summed over its tokens, or one a latent at a token."""

import torch
from torch import Tensor

from lightning_sae.attribution.edges.influence import Floats, sums_at
from lightning_sae.attribution.explained import Explained


def n_nodes(explained: Explained, by_token: bool) -> int:
    """Return how many nodes there can be: `d_sae`, by token `t * d_sae`."""
    return explained.latents.d_sae * (explained.x.shape[1] if by_token else 1)


def nodes_of(explained: Explained, by_token: bool) -> Tensor:
    """Return the node of each entry of the latents, `[nnz]`: by token `token * d_sae + latent`."""
    latents = explained.latents
    if not by_token:
        return latents.indices
    return latents.rows() % explained.x.shape[1] * latents.d_sae + latents.indices


def mean_activations(explained: Explained, by_token: bool) -> Floats:
    """Return the mean activation of each node over the images, `[n_nodes]`, tokens summed."""
    values = explained.latents.values.detach().cpu().double().numpy()
    nodes = nodes_of(explained, by_token).cpu().numpy()
    return sums_at(nodes, values, n_nodes(explained, by_token)) / len(explained.x)


def places(image: Tensor) -> Tensor:
    """Return the place of each entry among those of its image.

    Args:
        image: `[m]` int64, ascending.

    Example:
        >>> places(torch.tensor([0, 0, 2, 2, 2])).tolist()
        [0, 1, 0, 1, 2]
    """
    return torch.arange(len(image), device=image.device) - torch.searchsorted(image, image)


def most(place: Tensor) -> int:
    """Return the largest number of entries that an image has, of their places."""
    return int(place.max()) + 1 if len(place) else 0
