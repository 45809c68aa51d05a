"""What can be steered: latents of an autoencoder, or a direction of the same activations."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained


class Feature(Protocol):
    """Coordinates of an activation that can be read, and moved.

    Attributes:
        vectors: `[m, d_in]`, added to an activation for each unit of a coordinate.
        unit: `[m]`, the coordinates on an image that has what the feature stands for.
    """

    @property
    def vectors(self) -> Tensor: ...  # noqa: D102

    @property
    def unit(self) -> Tensor: ...  # noqa: D102

    def read(self, images: Explained) -> Tensor:
        """Return the coordinates of all tokens, `[n, t, m]`."""
        ...


class Latents(NamedTuple):
    """Latents of an autoencoder that are steered together.

    Attributes:
        latents: `[m]` int64, different ones.
        vectors: `[m, d_in]`, their rows of the decoder.
        unit: `[m]`, what each is set to at strength 1, in the units of the raw activations.
    """

    latents: Tensor
    vectors: Tensor
    unit: Tensor

    def read(self, images: Explained) -> Tensor:
        """Return the activations, `[n, t, m]`."""
        return images.latents.columns(self.latents).to_dense().view(*images.x.shape[:2], -1)


class Direction(NamedTuple):
    """A direction of the activations, used as if it were a latent: its coordinate is `<x - origin, d>`.

    Attributes:
        vectors: `[1, d_in]`, `d`, of unit length.
        unit: `[1]` > 0, how far apart images with the value and without lie along it.
        origin: `[d_in]`, mean activation of images without the value.
    """

    vectors: Tensor
    unit: Tensor
    origin: Tensor

    def read(self, images: Explained) -> Tensor:
        """Return the coordinate, `[n, t, 1]`."""
        return (images.x - self.origin) @ self.vectors.T


@torch.no_grad()
def steer(images: Explained, feature: Feature, strength: float, brings: Tensor) -> Tensor:
    """Return the embeddings of images after a feature is steered on all their tokens.

    The coordinates `c` become `strength * unit` where the feature is to come, and `(1 - strength) c` where it
    is to go: strength 0 removes nothing, 1 removes all of it, and more turns its sign round. The rest of the
    activation stays, so for latents this is `intervene` with values, and with scales.

    Args:
        images: `n` images.
        feature: of their activations.
        strength: >= 0.
        brings: `[n]` bool, whether the feature is to come; at strength 0 these stay as they are, too.

    Returns:
        `[n, d_embed]` unit.

    Example:
        >>> from lightning_sae.types import SparseLatents
        >>> x = torch.tensor([[[4.0, 0.0]], [[4.0, 3.0]]])
        >>> unit = lambda x, context: torch.nn.functional.normalize(x[:, 0], dim=-1)
        >>> images = Explained(unit, torch.eye(2), x, x, SparseLatents.from_dense(x[:, 0]))
        >>> feature = Latents(torch.tensor([1]), torch.eye(2)[1:], torch.tensor([3.0]))
        >>> steer(images, feature, 1.0, brings=torch.tensor([True, False]))
        tensor([[0.8000, 0.6000],
                [1.0000, 0.0000]])
    """
    if strength == 0:
        return images.tail(images.x, images.context)
    now = feature.read(images).to(images.x)
    asked = torch.where(brings[:, None, None], strength * feature.unit.to(now), (1 - strength) * now)
    return images.tail(images.x + (asked - now) @ feature.vectors.to(now), images.context)


@torch.no_grad()
def scaled(images: Explained, features: Sequence[Feature], factors: Sequence[float]) -> Tensor:
    """Return the embeddings of images with the coordinates of each of some features multiplied.

    Args:
        images: `n` images.
        features: of their activations, each read off the images as they are.
        factors: of each; 1 leaves it.

    Returns:
        `[n, d_embed]` unit.
    """
    x = images.x
    for feature, factor in zip(features, factors, strict=True):
        if factor != 1:
            x = x + (factor - 1) * feature.read(images).to(x) @ feature.vectors.to(x)
    return images.tail(x, images.context)
