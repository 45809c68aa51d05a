"""What edges come from: the active latents of an earlier layer, image by image."""

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.nodes import most, n_nodes, nodes_of, places


class Sources:
    """The active latents of a layer as nodes, and where they stand among those of their image.

    Attributes:
        explained: the images, with the map that leads on.
        n_nodes: nodes are in `0..n_nodes-1`.
        token, image, node: `[nnz]` of each entry of the latents.
        active: `[nnz]` bool.
        row_image, row_node: `[m]`, of each source on each image.
        place: `[m]`, which of the sources of its image it is.
        most: the largest number of sources of an image.

    Args:
        seen: images at the layer.
        by_token: whether a node is a latent at a token.
    """

    def __init__(self, seen: SeenLayer, by_token: bool) -> None:
        explained = seen.onward
        latents = explained.latents
        self.seen, self.explained = seen, explained
        self.n_nodes = n_nodes(explained, by_token)
        self.token, self.image = latents.rows(), explained.image_rows()
        self.active = latents.values > 0
        self.node = nodes_of(explained, by_token)
        keys, self._row = torch.unique(
            (self.image * self.n_nodes + self.node)[self.active], return_inverse=True
        )
        self.row_image = torch.div(keys, self.n_nodes, rounding_mode="floor")
        self.row_node = keys % self.n_nodes
        self.place = places(self.row_image)
        self.most = most(self.place)

    def tangents(self, here: range) -> Tensor:
        """Return what the sources at some places of all images contribute to `x`, `[m, n, t, d]`."""
        x, latents = self.explained.x, self.explained.latents
        entry = self.active.nonzero().flatten()
        place = self.place[self._row]
        mine = (place >= here.start) & (place < here.stop)
        part = latents.values[entry[mine], None] * self.explained.W_dec[latents.indices[entry[mine]]]
        at = (place[mine] - here.start) * len(latents) + self.token[entry[mine]]
        return x.new_zeros(len(here) * len(latents), x.shape[2]).index_add_(0, at, part).view(-1, *x.shape)
