"""Activations whose directions are known: sparse codes of more directions than dimensions, a mean, noise.

What an autoencoder should find in them is not a matter of opinion. The `easy` edition has independent
directions, equally frequent or not. The `realistic` one has what makes dictionaries hard: frequencies after
Zipf's law, groups that fire together, parents with exclusive children.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

MEAN = 3.0  # length of the mean activation, in units of a typical code
CHILDREN = 4  # of each parent


class Planted(NamedTuple):
    """Activations and what they are made of.

    Attributes:
        x: `[n, d_in]`, `codes @ directions + mean + noise`.
        codes: `[n, m]` >= 0, most of them 0.
        directions: `[m, d_in]` of unit norm.
    """

    x: Tensor
    codes: Tensor
    directions: Tensor


def easy(
    n: int, d_in: int, m: int, l0: float, noise: float = 0.05, zipf: float = 0.0, seed: int = 0
) -> Planted:
    """Return the independent directions.

    Args:
        n: tokens.
        d_in: dimensions.
        m: directions.
        l0: mean number of directions in a token.
        noise: standard deviation of the noise over a token, in units of a typical code.
        zipf: exponent of the frequencies, `frequency of the i-th ~ i^-zipf`; 0 for equal ones.
        seed: of everything.

    Returns:
        Codes are uniform in 0.5..1.5 where they are not 0.
    """
    random = torch.Generator().manual_seed(seed)
    present = torch.rand(n, m, generator=random) < frequencies(m, l0, zipf)
    return mix(present, d_in, noise, random)


def realistic(n: int, d_in: int, m: int, l0: float, noise: float = 0.1, seed: int = 0) -> Planted:
    """Return Zipf-distributed frequencies, correlated firing, and a hierarchy.

    The first fifth are parents. Each has four children, of which exactly one fires where the parent does.
    The parents come in pairs with a common cause: where it is present, both are six times as frequent.

    Args:
        n: tokens.
        d_in: dimensions.
        m: directions, a multiple of 10.
        l0: mean number of directions in a token.
        noise: standard deviation of the noise over a token, in units of a typical code.
        seed: of everything.
    """
    random = torch.Generator().manual_seed(seed)
    parents = m // (1 + CHILDREN)
    p = frequencies(parents, l0 / 2, zipf=0.8, most=1 / 3)  # raised to no more than 1
    cause = (torch.rand(n, parents // 2, generator=random) < 0.2).repeat(1, 2)
    raised = torch.where(cause, 3.0, 0.5) * p  # 0.2 * 3 + 0.8 * 0.5 = 1: the frequency stays
    present = torch.rand(n, parents, generator=random) < raised
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    child = torch.multinomial(shares, n * parents, replacement=True, generator=random).view(n, parents)
    children = present[:, :, None] & (child[:, :, None] == torch.arange(CHILDREN))
    return mix(torch.cat([present, children.flatten(1)], 1), d_in, noise, random)


def frequencies(m: int, l0: float, zipf: float, most: float = 0.5) -> Tensor:
    """Return `[m]`, sum `l0`, none above `most`."""
    weights = torch.arange(1, m + 1).float() ** -zipf
    p = l0 * weights / weights.sum()
    for _ in range(50):  # what is cut off goes to the others
        p = p.clamp(max=most)
        free = p < most
        p[free] *= 1 + (l0 - p.sum()) / p[free].sum()
    return p


def mix(present: Tensor, d_in: int, noise: float, random: torch.Generator) -> Planted:
    """Return the activations of tokens `[n, m]` with random directions and codes."""
    n, m = present.shape
    directions = normalize(torch.randn(m, d_in, generator=random), dim=1)
    codes = present * (0.5 + torch.rand(n, m, generator=random))
    mean = MEAN * normalize(torch.randn(1, d_in, generator=random), dim=1)
    noises = noise * torch.randn(n, d_in, generator=random) / d_in**0.5
    return Planted(codes @ directions + mean + noises, codes, directions)
