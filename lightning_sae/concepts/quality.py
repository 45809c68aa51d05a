"""How good the latents are: one meaning or two, how many alike, how much they change during training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

_TOLERANCE = 1e-6  # a move that improves the clusters by less is rounding
_REPLACED = 10  # images in the mean that SemanticLens takes where a cluster is tiny


class Nearest(NamedTuple):
    """The other row that is most like each row.

    Attributes:
        cosine: `[m]` in [-1, 1]; NaN where a row is unknown or has no other.
        other: `[m]` int64, that row, the first of equals; -1 where there is none.
    """

    cosine: Tensor
    other: Tensor


def polysemanticity(image_ids: Tensor, embeddings: Tensor, chunk_size: int = 512) -> Tensor:
    """Return how far apart the two meanings of a latent are, if it had two: `1 - cos(m_1, m_2)`.

    `m_1`, `m_2` are the means of the two clusters of its top images that `two_clusters` finds. The formula is
    that of SemanticLens, one minus the clarity of the two means (Dreyer et al. 2025, arXiv 2501.05398), but
    the number is not the same, because the clusters differ and a single outlier stays a cluster. Their number
    is `semantic_lens_polysemanticity`. Images that scatter about one meaning also fall in two halves, so
    compare latents by it, and don't read it as a share.

    Args:
        image_ids: `[d_sae, n]` int64, rows of `embeddings`; -1 where a latent has fewer images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        chunk_size: latents at a time; memory grows with `chunk_size * n * (n + d)`.

    Returns:
        `[d_sae]` in [0, 2], 0 for equal images; NaN below two images.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> polysemanticity(torch.tensor([[0, 0, 1], [0, 0, 0], [0, -1, -1]]), embeddings)
        tensor([1., 0., nan])
    """
    return torch.cat([_polysemanticity(ids, embeddings) for ids in torch.split(image_ids, chunk_size)])


def _polysemanticity(image_ids: Tensor, embeddings: Tensor) -> Tensor:
    present = image_ids >= 0
    rows = embeddings[image_ids.clamp(min=0)] * present[..., None]
    gram = rows @ rows.mT
    first = two_clusters(gram, present)
    clusters = torch.stack([first, present & ~first], 1).to(gram.dtype)
    products = clusters @ gram @ clusters.mT  # [m, 2, 2] of the sums over the clusters
    lengths = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt().prod(1)
    apart = (1 - products[:, 0, 1] / lengths).clamp(0, 2).where(clusters[:, 1].any(1), 0)
    return apart.where(present.sum(1) > 1, torch.nan)


def semantic_lens_polysemanticity(image_ids: Tensor, embeddings: Tensor, seed: int = 123) -> Tensor:
    """Return the polysemanticity as the package semanticlens computes it.

    It is `1 - cos(m_1, m_2)`, with outliers left aside. `m_1`, `m_2` are the means of the two clusters of
    scikit-learn's k-means, the best of ten random starts. Where the smaller one has a single image, or all
    are equal, the score is instead the mean over the first ten images of `1 - cos(v, e_i)`, with `v` the mean
    of all. Dreyer et al. 2025, SemanticLens, arXiv 2501.05398, `polysemanticity_score` of their code. It
    takes some milliseconds a latent, and depends on the seed where the ten starts miss the best clusters.

    Args:
        image_ids: `[d_sae, n]` int64, rows of `embeddings`, the largest activation first; -1 where a latent
            has fewer images.
        embeddings: `[n_images, d]` unit image embeddings of the judge.
        seed: of the starts; theirs by default.

    Returns:
        `[d_sae]` in [0, 2], 0 for equal images; NaN below two images.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> semantic_lens_polysemanticity(torch.tensor([[0, 0, 1, 1], [0, 0, 0, 1]]), embeddings)
        tensor([1.0000, 0.2094])
    """
    rows = embeddings.cpu().numpy()
    with config_context(assume_finite=True, skip_parameter_validation=True):
        scores = [_semantic_lens(rows[ids[ids >= 0]], seed) for ids in image_ids.cpu().numpy()]
    return torch.tensor(scores, dtype=embeddings.dtype, device=embeddings.device).clamp(0, 2)


def _semantic_lens(rows: NDArray[np.floating], seed: int) -> float:
    if len(rows) < 2:
        return float("nan")
    if (rows != rows[0]).any():
        found = KMeans(2, n_init=10, random_state=seed).fit(rows)
        if np.bincount(found.labels_, minlength=2).min() > 1:
            return 1 - float(_cosines(found.cluster_centers_[:1], found.cluster_centers_[1])[0])
    return 1 - float(_cosines(rows[:_REPLACED], rows.mean(0)).mean())


def _cosines(rows: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the cosine of each row with another vector, `[n]`."""
    cosines: NDArray[np.floating] = rows @ other / np.linalg.norm(rows, axis=1) / np.linalg.norm(other)
    return cosines


def two_clusters(gram: Tensor, present: Tensor) -> Tensor:
    """Split each row's unit vectors in two: 2-means, from their inner products alone, deterministic.

    The split minimises the squared distances to the two means, that is, maximises
    `||sum_1||^2 / n_1 + ||sum_2||^2 / n_2`. Every vector and the one farthest from it are seeds of a search,
    which makes the best single move until none helps (Hartigan 1975, Clustering Algorithms, ch. 4). The best
    result of all searches is taken. It misses the optimum in less than two of a hundred sets of ten without
    any clusters.

    Args:
        gram: `[m, n, n]` inner products of unit vectors.
        present: `[m, n]` bool, which vectors there are.

    Returns:
        `[m, n]` bool, the first cluster: it holds a vector wherever there is one. The second is empty where
        all are equal.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> two_clusters((x @ x.T)[None], torch.ones(1, 3, dtype=torch.bool)).tolist()
        [[True, False, True]]
    """
    there = present[:, None].to(gram.dtype)
    far = gram.masked_fill(~present[:, None], torch.inf).argmin(2)
    far_rows = gram.gather(1, far[..., None].expand_as(gram))
    first = (gram >= far_rows).to(gram.dtype) * there  # [m, starts, n]
    total = there @ gram
    for _ in range(2 * gram.shape[1]):
        gain, place = _gains(gram, first, there, total).max(2, keepdim=True)
        if not (gain > _TOLERANCE).any():
            break
        moved = first.scatter(2, place, 1 - first.gather(2, place))
        first = moved.where(gain > _TOLERANCE, first)
    value = _objective(*_sums(gram, first, there, total)).masked_fill(~present, -torch.inf)
    best = value.argmax(1)[:, None, None].expand(-1, 1, gram.shape[1])
    return first.gather(1, best).squeeze(1) > 0


def _sums(gram: Tensor, first: Tensor, there: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the squared length of the sum, and size, of both clusters, each `[m, starts]`."""
    second, dots = there - first, first @ gram
    squares = (dots * first).sum(2), ((total - dots) * second).sum(2)
    return squares[0], first.sum(2), squares[1], second.sum(2)


def _objective(square_1: Tensor, size_1: Tensor, square_2: Tensor, size_2: Tensor) -> Tensor:
    return square_1 / size_1.clamp(min=1) + square_2 / size_2.clamp(min=1)


def _gains(gram: Tensor, first: Tensor, there: Tensor, total: Tensor) -> Tensor:
    """Return what moving each vector to the other cluster adds to the objective, `[m, starts, n]`."""
    square_1, size_1, square_2, size_2 = (part[..., None] for part in _sums(gram, first, there, total))
    dots, leaves = first @ gram, 2 * first - 1  # +1: leaves the first cluster, -1: joins it
    moved = _objective(
        square_1 - 2 * leaves * dots + 1,
        size_1 - leaves,
        square_2 + 2 * leaves * (total - dots) + 1,
        size_2 + leaves,
    )
    allowed = (there > 0) & (size_1 > leaves) & (size_2 > -leaves)  # no cluster becomes empty
    return (moved - _objective(square_1, size_1, square_2, size_2)).masked_fill(~allowed, -torch.inf)


def redundancy(vectors: Tensor, known: Tensor, chunk_size: int = 2048) -> Nearest:
    """Return how much a latent repeats another: the largest cosine to another latent's vector.

    Redundancy of Dreyer et al. 2025, SemanticLens, arXiv 2501.05398, for concept vectors; the same for
    decoder rows. CLIP's image embeddings share a direction, so concept vectors are never far apart.

    Args:
        vectors: `[d_sae, d]`, of any length above 0.
        known: `[d_sae]` bool; other latents have no redundancy, and do not count in that of another.
        chunk_size: rows and columns of cosines at a time.

    Example:
        >>> vectors = torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])
        >>> nearest = redundancy(vectors, torch.tensor([True, True, True, False]))
        >>> nearest.cosine, nearest.other.tolist()
        (tensor([0.6000, 0.8000, 0.8000, nan]), [1, 2, 1, -1])
    """
    rows = known.nonzero().squeeze(1)
    units = normalize(vectors[rows], dim=-1)
    cosine, index = units.new_full((len(rows),), -torch.inf), torch.full_like(rows, -1)
    for i in range(0, len(rows), chunk_size):
        for j in range(i, len(rows), chunk_size):
            block = units[i : i + chunk_size] @ units[j : j + chunk_size].T
            if i == j:
                block.fill_diagonal_(-torch.inf)
            _keep_nearest(cosine, index, block, i, j)
            if i != j:
                _keep_nearest(cosine, index, block.T.contiguous(), j, i)
    alone = cosine.isinf()
    nearest = Nearest(
        cosine.new_full((len(vectors),), torch.nan), torch.full_like(known, -1, dtype=torch.int64)
    )
    nearest.cosine[rows] = cosine.clamp(-1, 1).masked_fill(alone, torch.nan)
    nearest.other[rows] = rows[index].masked_fill(alone, -1)
    return nearest


def _keep_nearest(cosine: Tensor, index: Tensor, block: Tensor, row: int, column: int) -> None:
    value, place = block.max(1)
    rows = slice(row, row + len(block))
    nearer = value > cosine[rows]
    cosine[rows] = value.where(nearer, cosine[rows])
    index[rows] = (place + column).where(nearer, index[rows])


def label_churn(before: Sequence[str], now: Sequence[str]) -> float:
    """Return the share of the latents with a label both times whose label changed.

    Args:
        before: label of each latent, "" for none.
        now: the same, later.

    Returns:
        In 0..1; NaN if no latent has a label both times.

    Example:
        >>> label_churn(["cat", "dog", ""], ["cat", "red", "sky"])
        0.5
    """
    changed = [old != new for old, new in zip(before, now, strict=True) if old and new]
    return sum(changed) / len(changed) if changed else float("nan")


def image_overlap(before: Tensor, now: Tensor) -> Tensor:
    """Return Jaccard index of two sets of top images of each latent, `|A and B| / |A or B|`.

    Args:
        before: `[d_sae, n]` int64, different image ids; -1 where there are fewer.
        now: the same, later.

    Returns:
        `[d_sae]` in 0..1; NaN where both sets are empty.

    Example:
        >>> image_overlap(torch.tensor([[1, 2, 3], [4, -1, -1]]), torch.tensor([[3, 5, 2], [-1, -1, -1]]))
        tensor([0.5000, 0.0000])
    """
    shared = ((before[:, :, None] == now[:, None, :]) & (before >= 0)[:, :, None]).sum((1, 2))
    return shared / ((before >= 0).sum(1) + (now >= 0).sum(1) - shared)
