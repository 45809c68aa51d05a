"""The latents of images as nodes: one a latent, summed over its tokens, or one a latent at a token."""

import numpy as np
from torch import Tensor

from lightning_sae.attribution.edges.influence import Floats
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
    return np.bincount(nodes, values, n_nodes(explained, by_token)) / len(explained.x)
