"""The culprits' direction in embedding space, and how much of it is in the vector of a class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Erasure(NamedTuple):
    """What is taken out of the vector of a class.

    Attributes:
        direction: `[d_embed]`; the edited vector is `w - strength * direction`.
        centre: mean of `<direction, e>` over the images of other classes: what the bias gets back, so that
            their mean score stays.
    """

    direction: Tensor
    centre: float


def erasure(
    embeddings: Tensor,
    activations: Tensor,
    own: Tensor,
    weight: Tensor,
    ridge: float = 0.01,
    spared: Sequence[Tensor] = (),
) -> Erasure:
    """What makes the score of a class follow the culprits, as the smallest change that ends it and spares it.

    Over images of *other* classes let the columns `s_j` of `S` be the covariances of the embeddings `e` with
    the activation of culprit `j`: the score `<w, e>` and the culprits have the covariance `S^T w`. Let `m` be
    the mean embedding of the class's own images less that of the others, and `C` the covariance within the
    two. Of all `w'` with `S^T w' = 0` and `<w' - w, m> = 0`, so that the class's own images keep their mean
    score, the one that changes the scores least, with the least `Var(<w' - w, e>)`, is, with `M = [S, m]`,

        `w' = w - C^-1 M (M^T C^-1 M)^-1 [S^T w; 0]`.

    Without `m` it is the case of a single score of LEACE (Belrose et al. 2023, arXiv 2306.03819); but where
    a class is taken for another one that looks alike to CLIP, what tells the culprits is part of the class.
    Where an edit would lead images of a third class to this one, its mean embedding less that of all others
    is a further column of `M`, with another 0 below `S^T w`: its mean score stays as well.
    `C` gets `ridge` times its mean variance on the diagonal; all conditions hold for any ridge.

    Args:
        embeddings: `[n, d_embed]` unit, images of other classes.
        activations: `[n, m]` of the culprits on them, the largest over an image's tokens.
        own: `[k, d_embed]` unit, images of the class; with none there is nothing to spare.
        weight: `[d_embed]`, of the class: its logit is the product with an embedding, plus a bias.
        ridge: >= 0.
        spared: `[k_i, d_embed]` unit, images of further classes that keep their mean score.

    Raises:
        ValueError: no culprit is active on the others, or all of them always alike.

    Example:
        >>> e = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
        >>> a = torch.tensor([[2.0], [0.0], [0.0], [0.0]])
        >>> erasure(e, a, e[:0], torch.tensor([3.0, 4.0]), ridge=0.0).direction
        tensor([3., 0.])
        >>> erasure(e, a, torch.tensor([[1.0, 1.0]]), torch.tensor([3.0, 4.0]), ridge=0.0).direction
        tensor([ 3., -3.])
    """
    e, a, mine, w = (t.double() for t in (embeddings, activations, own, weight))
    mean = e.mean(0) if len(e) else e.new_zeros(e.shape[1])
    S = (e - mean).T @ (a - a.mean(0)) / max(len(e), 1)
    if not erasable(a):
        raise ValueError(
            "the culprits are never active, or always alike, on images of other classes: there is no "
            "direction to take out. Take --way ablate, or another finding"
        )
    kept = [images.double().mean(0) - mean for images in (own, *spared) if len(images)]
    M, taken = torch.column_stack([S, *kept]), torch.cat([S.T @ w, w.new_zeros(len(kept))])
    lengths = M.norm(dim=0).clamp(min=torch.finfo(M.dtype).tiny)
    M, taken = M / lengths, taken / lengths  # else the pseudo-inverse could drop weak culprits
    detectors = torch.linalg.lstsq(_within(e, mine, ridge), M, driver="gelsd").solution
    direction = detectors @ torch.linalg.pinv(M.T @ detectors, hermitian=True) @ taken
    return Erasure(direction.to(weight), float(mean @ direction))


def erasable(activations: Tensor) -> bool:
    """Return whether any culprit is more active on some images than on others, so that a score can follow it.

    Args:
        activations: `[n, m]` of the culprits.

    Example:
        >>> erasable(torch.tensor([[0.0], [2.0]])), erasable(torch.tensor([[2.0], [2.0]]))
        (True, False)
    """
    return bool((activations != activations[:1]).any())


def _within(others: Tensor, own: Tensor, ridge: float) -> Tensor:
    """Covariance of the embeddings about the mean of their kind, `[d_embed, d_embed]`."""
    centred = torch.cat([part - part.mean(0) for part in (others, own) if len(part)])
    C = centred.T @ centred / len(centred)
    C.diagonal().add_(ridge * C.diagonal().mean())
    return C
