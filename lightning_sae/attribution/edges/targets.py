"""What edges lead to: latents of a later layer on an image, or the score of an image."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_sae.attribution.edges.layers import SeenLayer
from lightning_sae.attribution.edges.nodes import most, n_nodes, nodes_of, places


class Targets(ABC):
    """Some targets on each of `n` images, each a linear function of what a map gives for its image.

    Attributes:
        image: `[r]` int64, ascending.
        node: `[r]` int64, which target it is.
        place: `[r]` int64, its place among the targets of its image.
        most: the largest number of targets of an image.
        value: `[r]`, what the target is on its image: a pre-activation or a score.
    """

    def __init__(self, image: Tensor, node: Tensor, value: Tensor, n: int) -> None:
        self.image, self.node, self.value, self.n = image, node, value, n
        self.place = places(image.contiguous())
        self.most = most(self.place)

    def __len__(self) -> int:
        return len(self.image)

    @abstractmethod
    def cotangent(self, place: int) -> Tensor:
        """Return the gradients, as the map's output, of the targets at one place of all images."""

    @abstractmethod
    def read(self, y: Tensor) -> Tensor:
        """Return the change of each target `[r]` for a change of the map's output `[n, ...]`."""


class ScoreTargets(Targets):
    """The score of one class an image: the map gives the scores of all classes.

    Args:
        scores: `[n, C]`.
        classes: `[n]` int64.
    """

    def __init__(self, scores: Tensor, classes: Tensor) -> None:
        n = len(scores)
        image = torch.arange(n, device=scores.device)
        self.classes = classes.to(scores.device)
        super().__init__(image, torch.zeros_like(image), self._pick(scores), n)
        self._zeros = torch.zeros_like(scores)

    def cotangent(self, place: int) -> Tensor:
        """Return `[n, C]`."""
        return self._zeros.scatter(1, self.classes[:, None], 1.0)

    def read(self, y: Tensor) -> Tensor:
        """Return `[n]`."""
        return self._pick(y)

    def _pick(self, scores: Tensor) -> Tensor:
        return scores.gather(1, self.classes[:, None])[:, 0]


class LatentTargets(Targets):
    """The pre-activations of the active latents of a layer.

    Args:
        seen: the images at that layer.
        chosen: `[n_nodes]` bool, the nodes that are targets; `None` for all.
        by_token: whether a latent is a target for each token; else for an image, summed over the tokens on
            which it is active.
    """

    def __init__(self, seen: SeenLayer, chosen: Tensor | None = None, by_token: bool = False) -> None:
        explained = seen.explained
        latents, x = explained.latents, explained.x
        n, t, _ = x.shape
        active, node, nodes = latents.values > 0, nodes_of(explained, by_token), n_nodes(explained, by_token)
        if chosen is not None:
            active &= chosen.to(active.device)[node]
        self._entry = active.nonzero().flatten()
        token, latent, node = latents.rows()[self._entry], latents.indices[self._entry], node[self._entry]
        image = torch.div(token, t, rounding_mode="floor")
        keys, self._row = torch.unique(image * nodes + node, return_inverse=True)
        value = x.new_zeros(len(keys)).index_add_(0, self._row, latents.values[self._entry])
        super().__init__(torch.div(keys, nodes, rounding_mode="floor"), keys % nodes, value, n)
        self._token, self._latent, self._shape, self._image_of_entry = (
            token,
            latent,
            x.shape,
            image.contiguous(),
        )
        self._slopes = seen.layer.sae.encoder_slopes().to(x)

    def cotangent(self, place: int) -> Tensor:
        """Return `[n, t, d]`."""
        mine = self.place[self._row] == place
        zeros = self._slopes.new_zeros(self._shape[0] * self._shape[1], self._shape[2])
        return zeros.index_add_(0, self._token[mine], self._slopes[self._latent[mine]]).view(self._shape)

    def read(self, y: Tensor) -> Tensor:
        """Return `[r]` of `[n, t, d]`."""
        row, _, change = self.read_images(y, torch.arange(self.n, device=y.device))
        return y.new_zeros(len(self)).index_add_(0, row, change)

    def read_images(self, y: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the changes of all targets of some images, each image as often as wanted.

        Args:
            y: `[b, t, d]`, changes of the map's output.
            image: `[b]` int64, the image of each.

        Returns:
            For each active entry of the images: the row of its target, its place among the `b`, and its part
            of the change of the target, each `[e]`.
        """
        tokens = self._shape[1]
        first = torch.searchsorted(self._image_of_entry, image)
        counts = torch.searchsorted(self._image_of_entry, image, right=True) - first
        place = torch.arange(len(image), device=image.device).repeat_interleave(counts)
        entry = torch.arange(len(place), device=image.device) - (counts.cumsum(0) - counts - first)[place]
        rows = y.flatten(0, 1)[place * tokens + self._token[entry] % tokens]
        return self._row[entry], place, (rows * self._slopes[self._latent[entry]]).sum(1)


def choose(seen: SeenLayer, latents: Sequence[int], token: int | None = None) -> Tensor:
    """Return which nodes some latents are, for `edges_to_latents`.

    Args:
        seen: the images at their layer.
        latents: each once.
        token: at this one, for nodes by token; `None`: summed over the tokens.

    Returns:
        `[n_nodes]` bool.

    Raises:
        ValueError: the autoencoder or the layer has no such latent or token; a latent is not active on any of
            the images, there.
    """
    explained, d_sae = seen.explained, seen.explained.latents.d_sae
    t, by_token = explained.x.shape[1], token is not None
    if not all(0 <= j < d_sae for j in latents) or not 0 <= (token or 0) < t:
        raise ValueError(
            f"a latent is one of 0..{d_sae - 1} and a token one of 0..{t - 1} at {seen.layer.hook_point}, "
            f"got {list(latents)}" + (f" at token {token}" if by_token else "")
        )
    nodes = torch.tensor([j + (token or 0) * d_sae for j in latents])
    active = torch.unique(nodes_of(explained, by_token)[explained.latents.values > 0]).cpu()
    if silent := nodes[~torch.isin(nodes, active)].tolist():
        dead = seen.layer.sae.dead[silent[0] % d_sae]
        why = "dead: it was long silent in training" if dead else "not active on these images"
        where = f" at token {token}" if by_token else ""
        raise ValueError(
            f"latent {silent[0] % d_sae} of {seen.layer.hook_point} is {why}{where}, so nothing leads to it; "
            "take one that is active, see seen.explained.latents.fired()"
        )
    chosen = torch.zeros(n_nodes(explained, by_token), dtype=torch.bool)
    return chosen.index_fill(0, nodes, True)
