"""The directions that latents are held against: a difference of means, a probe, a text, chance."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.gradient import gradient
from lightning_sae.classifiers.linear import fit_probe
from lightning_sae.classifiers.scores import make_score
from lightning_sae.steering.feature import Direction

INVERSE_L2 = 1.0  # of a probe on activations that are brought to unit variance


def mean_difference(there: Tensor, lacking: Tensor) -> Direction:
    """Return the direction from the mean of images without a value to that of images with it.

    Args:
        there: `[n, d_in]`, images with the value, the mean over their tokens.
        lacking: `[m, d_in]`, images without.

    Example:
        >>> mean_difference(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)).vectors
        tensor([[0.6000, 0.8000]])
    """
    return along(there.mean(0) - lacking.mean(0), there, lacking)


def probe_direction(there: Tensor, lacking: Tensor) -> Direction:
    """Return the weight of a logistic regression that tells images with a value from those without.

    Activations are centred and divided by one number, their root mean square over images and dimensions, and
    the weights have an L2 penalty.

    Args:
        there: `[n, d_in]`, images with the value, the mean over their tokens.
        lacking: `[m, d_in]`, images without.
    """
    x = torch.cat([there, lacking])
    x = x - x.mean(0)
    targets = torch.cat([torch.ones(len(there)), torch.zeros(len(lacking))]).long()
    probe = fit_probe(x / x.square().mean().sqrt(), targets, 2, INVERSE_L2, balanced=True)
    return along(probe.weight[1].to(x), there, lacking)


def text_direction(text: Tensor, images: Explained, there: Tensor, lacking: Tensor) -> Direction:
    """Return the direction that raises the cosine with a text most: its mean gradient over some images.

    At the final embedding it is the part of the text that is orthogonal to them.

    Args:
        text: `[d_embed]`, text of the value, such as its unit embedding minus the mean of other values.
        images: images without the value.
        there: `[n, d_in]`, images with the value, the mean over their tokens.
        lacking: `[m, d_in]`, images without.
    """
    g = gradient(images.tail, images.x, make_score(text), images.context)
    return along(g.sum(1).mean(0), there, lacking)


def random_direction(there: Tensor, lacking: Tensor, seed: int) -> Direction:
    """Return a direction that is drawn evenly from all, with a unit as long as the difference of means."""
    draws = torch.Generator().manual_seed(seed)
    drawn = torch.randn(there.shape[1], generator=draws).to(there)
    length = (there.mean(0) - lacking.mean(0)).norm()
    return along(drawn, there, lacking)._replace(unit=length[None])


def along(vector: Tensor, there: Tensor, lacking: Tensor) -> Direction:
    """Return the direction of a vector, with the distance of the two means along it as its unit."""
    d, origin = normalize(vector, dim=0), lacking.mean(0)
    unit = (d @ (there.mean(0) - origin)).abs()
    return Direction(d[None], unit[None], origin)
