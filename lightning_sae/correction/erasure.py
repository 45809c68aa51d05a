"""The culprits' direction in embedding space, and how much of it is in the vector of a class."""

from typing import NamedTuple

import torch
from torch import Tensor


class Erasure(NamedTuple):
    """What is taken out of the vector of a class.

    Attributes:
        direction: `[d_embed]`; the edited vector is `w - strength * direction`.
        centre: mean of `<direction, e>` over the images behind it: what the bias gets back, so that the mean
            score of these images stays.
    """

    direction: Tensor
    centre: float


def erasure(embeddings: Tensor, activations: Tensor, weight: Tensor, ridge: float = 0.01) -> Erasure:
    """What makes the score of a class follow the culprits, as the smallest change that ends it.

    Over images of *other* classes, with `C` the covariance of the embeddings `e` and `s_j` the covariance of
    `e` and culprit `j`'s activation, the columns of `S`: the score `<w, e>` and the culprits have the
    covariance `S^T w`. Of all `w'` with `S^T w' = 0` the one that changes the scores least, with the least
    `Var(<w' - w, e>)`, is

        `w' = w - C^-1 S (S^T C^-1 S)^-1 S^T w`.

    `C^-1 s_j` is the linear detector of the culprit, so that the score loses what the detectors say of an
    image and nothing else; the orthogonal projection on `s_j` would take along all that goes with it. It is
    the case of a single score of LEACE (Belrose et al. 2023, arXiv 2306.03819). `C` gets `ridge` times its
    mean variance on the diagonal; the covariance is zero for any ridge.

    Args:
        embeddings: `[n, d_embed]` unit, images of other classes.
        activations: `[n, m]` of the culprits, the largest over an image's tokens.
        weight: `[d_embed]`, of the class: its logit is the product with an embedding, plus a bias.
        ridge: >= 0.

    Raises:
        ValueError: no culprit is active on these images, or all of them always alike.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> a = torch.tensor([[2.0], [0.0], [0.0], [0.0]])
        >>> erasure(e, a, torch.tensor([3.0, 4.0]), ridge=0.0).direction
        tensor([3., 0.])
    """
    e, a, w = embeddings.double(), activations.double(), weight.double()
    mean = e.mean(0) if len(e) else e.new_zeros(e.shape[1])
    a = a - a.mean(0)
    S = (e - mean).T @ a / max(len(e), 1)
    if not bool(S.abs().max() > 0):
        raise ValueError(
            "the culprits are never active, or always alike, on images of other classes: there is no "
            "direction to take out. Take --way ablate, or another finding"
        )
    C = (e - mean).T @ (e - mean) / len(e)
    C.diagonal().add_(ridge * C.diagonal().mean())
    detectors = torch.linalg.lstsq(C, S, driver="gelsd").solution
    direction = detectors @ torch.linalg.pinv(S.T @ detectors, hermitian=True) @ (S.T @ w)
    return Erasure(direction.to(weight), float(mean @ direction))
