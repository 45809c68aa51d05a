"""The vector of a class fitted anew, so that it tells the class in every group alike."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from lightning_sae.correct.covariance import covariance_within
from lightning_sae.metrics.group_errors import Groups, others_than

FOLDS = 5
LEAST = 10  # images of the class, and of others, in a group that is fitted to


class VectorChange(NamedTuple):
    """A change of the vector and the bias of a class.

    Attributes:
        direction: `[d_embed]`, that is added to the vector.
        bias: that is added to the bias, in logits.
    """

    direction: Tensor
    bias: float

    def of(self, embeddings: Tensor) -> Tensor:
        """Return by how much it changes the logit of the class, `[n, d_embed]` -> `[n]`."""
        change: Tensor = embeddings @ self.direction + self.bias
        return change


class FitImages(NamedTuple):
    """The images that a class is fitted to.

    Attributes:
        embeddings: `[n, d_embed]` unit.
        margin: `[n]`, the logit of the class less the `logsumexp` of all others, as the classifier is.
        cells: `[n]` int64, `2 v` for images of other classes in the group `v`, `2 v + 1` for those of the
            class, `2 V + 1` for those of the class in small groups; -1 for an image that has no part.
        ids: `[n]` int64; an image as it is and the same image with a word on it have one number.
    """

    embeddings: Tensor
    margin: Tensor
    cells: Tensor
    ids: Tensor

    def only(self, chosen: Tensor) -> "FitImages":
        """Return some of the images, `[n]` bool."""
        return FitImages(*(part[chosen] for part in self))


def cells_of(targets: Tensor, target: int, groups: Groups, look_alike: bool = False) -> Tensor:
    """Return the cells of images, `[n]` int64, as in `FitImages`.

    Groups with fewer than ten images of the class, or of others, are left out, as they cannot show whether
    the class is missed there or others are taken for it. Images of unknown class are left out as well. Where
    the cue is a look-alike of the class, images of the class are not expected to have it. Those in groups
    with fewer than ten of them are then one cell together, if they are ten in all.

    Args:
        targets: `[n]` int64, of the classifier's classes, `UNKNOWN` or `OUTSIDE`.
        target: the class.
        groups: of the images.
        look_alike: whether the cue is another thing, such as the other sense of a word.

    Example:
        >>> groups = Groups("cue", ["no", "yes"], torch.tensor([0] * 20 + [1] * 20))
        >>> cells_of(torch.tensor([0, 1] * 20), 0, groups)[::13].tolist()
        [1, 0, 3, 2]
    """
    own, others, n = targets == target, others_than(targets, target), len(groups.values)
    few_own, few_others = (torch.bincount(groups.of[part], minlength=n) < LEAST for part in (own, others))
    cells = 2 * groups.of + own
    if not look_alike:
        return torch.where((own | others) & ~(few_own | few_others)[groups.of], cells, -1)
    cells = torch.where(own & few_own[groups.of], 2 * n + 1, cells)
    enough = torch.bincount(cells[own | others], minlength=2 * n + 2) >= LEAST
    return torch.where((own | others) & enough[cells], cells, -1)


def can_refit(images: FitImages) -> bool:
    """Return whether there are images of the class, and of others in two groups at least.

    Where class and cue always occur together, no fit can tell one from the other. A classifier of one class
    has no margin.
    """
    kinds = [cell % 2 for cell in {*images.cells.tolist()} - {-1}]
    return kinds.count(0) > 1 and kinds.count(1) > 0 and bool(images.margin.isfinite().all())


def refit(images: FitImages, inverse_penalty: float) -> VectorChange:
    """Return the change of a class's vector that tells the class best, each group counting alike.

    Let `m` be the margin of the class, `y` be 1 on its own images and -1 on others, and `w` be weights that
    sum up to 1/2 over the class's images and to 1/2 over the others, with equal sums in each of their groups.
    The change `d` of the vector and `b` of the bias is the minimum of

        `sum_i w_i log(1 + exp(-y_i (m_i + <d, e_i> + b))) + d^T C d / (2 inverse_penalty)`

    with `C` the covariance of the embeddings about the mean of their kind, so the penalty is on the variance
    of what is added to the logit. This is a logistic regression that starts from the classifier. Where a
    network has the features, it is enough to fit its last layer on groups of equal weight: Kirichenko et al.
    2023, *Last layer re-training is sufficient for robustness to spurious correlations* (arXiv 2204.02937).

    Args:
        images: of the class, and of others in two groups at least (`can_refit`).
        inverse_penalty: > 0; the larger, the further it may go.

    Raises:
        ValueError: fewer groups.

    Example:
        >>> e = torch.tensor([[1.0, 0.2], [1.0, -0.2], [-1.0, 0.2], [-1.0, -0.2]]).repeat(20, 1)
        >>> cells = torch.tensor([3, 1, 2, 0]).repeat(20)
        >>> margin = 5 * e[:, 1]  # it follows the cue of the second group
        >>> found = refit(FitImages(e, margin, cells, torch.arange(80)), 100.0)
        >>> bool(((margin + found.of(e) > 0) == (cells % 2 == 1)).all())
        True
    """
    return refits(images, [inverse_penalty])[0]


def refits(images: FitImages, inverse_penalties: Sequence[float]) -> list[VectorChange]:
    """Return a change for each penalty, as `refit` does; the embeddings are whitened once.

    Args:
        images: as for `refit`.
        inverse_penalties: each as for `refit`.

    Raises:
        ValueError: as `refit`.
    """
    if not can_refit(images):
        raise ValueError(
            f"a refit needs two classes, and in each of two groups {LEAST} images of the class and {LEAST} "
            "of others: take another --way, or collect images of both with and without the cue"
        )
    used = images.only(images.cells >= 0)
    cells = used.cells
    weight = cell_weights(cells).numpy()
    sign, margin, e = cells % 2 * 2.0 - 1, used.margin.double().numpy(), used.embeddings.double()
    C = covariance_within(e[sign < 0], e[sign > 0])
    C.diagonal().clamp_(min=torch.finfo(C.dtype).tiny)  # embeddings that are all alike
    mean, root = e.mean(0), torch.linalg.cholesky(C)
    z = torch.linalg.solve_triangular(root, (e - mean).T, upper=False).T.numpy()
    changes = []
    for inverse_penalty in inverse_penalties:
        found = _minimum(z, margin, sign.double().numpy(), weight, inverse_penalty)
        white = torch.from_numpy(found[:-1, None])
        direction = torch.linalg.solve_triangular(root.T, white, upper=True)[:, 0]
        changes.append(VectorChange(direction.to(images.embeddings), float(found[-1] - mean @ direction)))
    return changes


def cell_weights(cells: Tensor) -> Tensor:
    """Return weights `[n]` float64: half for the class and half for others, shared equally by their cells.

    Example:
        >>> cell_weights(torch.tensor([0, 0, 2, 3])).tolist()
        [0.125, 0.125, 0.25, 0.5]
    """
    counts = torch.bincount(cells).double()
    kind = torch.arange(len(counts)) % 2
    n_cells = torch.bincount(kind[counts > 0], minlength=2)
    return 1 / (2 * n_cells[kind] * counts)[cells]


def held_out(images: FitImages, inverse_penalties: Sequence[float]) -> Tensor:
    """Return `[m, n]`, the change of the class's logit on each image by refits that did not see it.

    Each of five folds is judged by a fit to the other four. Every fold has its part of each cell, and all
    versions of one image are in the same fold.

    Args:
        images: as for `refit`.
        inverse_penalties: `m` of them, each as for `refit`.

    Raises:
        ValueError: as `refit`.
    """
    fold, change = folds(images), images.margin.new_empty(len(inverse_penalties), len(images.margin))
    for k in range(FOLDS):
        for row, found in zip(change, refits(images.only(fold != k), inverse_penalties), strict=True):
            row[fold == k] = found.of(images.embeddings[fold == k])
    return change


def folds(images: FitImages) -> Tensor:
    """Return the fold of each image, `[n]` int64 in 0..4.

    Example:
        >>> e, cells = torch.zeros(6, 1), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> folds(FitImages(e, e[:, 0], cells, torch.tensor([0, 1, 2, 3, 4, 0]))).tolist()
        [2, 0, 1, 3, 4, 2]
    """
    known, place = torch.unique(images.ids, return_inverse=True)
    low, high = (  # an image with a word on it has two cells, and is dealt among its like
        torch.zeros_like(known).scatter_reduce_(0, place, images.cells, reduce, include_self=False)
        for reduce in ("amin", "amax")
    )
    order = (low * (int(images.cells.max()) + 2) + high).argsort(stable=True)
    fold = torch.empty_like(known)
    fold[order] = torch.arange(len(known)) % FOLDS
    return fold[place]


def _minimum(
    z: NDArray[np.float64],
    margin: NDArray[np.float64],
    sign: NDArray[np.float64],
    weight: NDArray[np.float64],
    inverse_penalty: float,
) -> NDArray[np.float64]:
    """Return the `d + 1` numbers that minimise the penalised logistic loss, the bias last."""

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        signed = sign * (margin + z @ values[:-1] + values[-1])
        pull = -weight * sign * expit(-signed)
        slope = np.append(z.T @ pull + values[:-1] / inverse_penalty, pull.sum())
        penalty = values[:-1] @ values[:-1] / (2 * inverse_penalty)
        return float(weight @ np.logaddexp(0, -signed) + penalty), slope

    found: NDArray[np.float64] = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found
