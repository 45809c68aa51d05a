"""Area under the ROC curve, exact, for one score or for all latents at once."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.types import SparseLatents


def auroc(scores: Tensor, positives: Tensor) -> Tensor:
    """Return the probability that a positive scores higher than a negative (Mann-Whitney U).

    Ties are counted half.

    Args:
        scores: `[n]`.
        positives: `[n]` bool.

    Returns:
        Scalar in 0..1, float64; NaN if a class is empty.

    Example:
        >>> auroc(torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([False, False, True, True])).item()
        0.875
    """
    _, group, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks = _average_ranks(counts)[group]
    n_positive = positives.sum().double()
    n_negative = len(scores) - n_positive
    return (ranks[positives].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def sparse_auroc(latents: SparseLatents, positives: Tensor) -> Tensor:
    """Return `auroc` of every latent as a detector, from the active latents alone; the zeros are one big tie.

    Args:
        latents: of `n` tokens.
        positives: `[n]` bool.

    Returns:
        `[d_sae]` in 0..1, float64; 0.5 for a latent that never fires, NaN if a class is empty.

    Example:
        >>> latents = SparseLatents.from_dense(torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0]]))
        >>> sparse_auroc(latents, torch.tensor([False, True, True])).tolist()
        [1.0, 0.0]
    """
    return ActiveRanks.of(latents).aurocs(torch.where(positives, 0, -1), 1)[0]


class ActiveRanks(NamedTuple):
    """The active latents of `n` tokens, ranked by activation within their latent: what every AUROC needs.

    Attributes:
        latent: `[m]` int64, ascending.
        row: `[m]` int64, the token.
        rank: `[m]` float64 in 1.., the mean rank of equal activations.
        n: number of tokens.
        d_sae: number of latents.
    """

    latent: Tensor
    row: Tensor
    rank: Tensor
    n: int
    d_sae: int

    @classmethod
    def of(cls, latents: SparseLatents) -> Self:
        """Sort the active latents, once for any number of classes."""
        active = latents.values > 0
        latent, value, row = latents.indices[active], latents.values[active], latents.rows()[active]
        order = value.argsort(stable=True)
        order = order[latent[order].argsort(stable=True)]  # by latent, then value
        latent, value = latent[order], value[order]
        fired = torch.bincount(latent, minlength=latents.d_sae)
        rank = _tied_ranks(latent, value) - (fired.cumsum(0) - fired)[latent]
        return cls(latent, row[order], rank, len(latents), latents.d_sae)

    def aurocs(self, labels: Tensor, n_labels: int) -> Tensor:
        """Return `sparse_auroc` of every latent for every class against all other tokens.

        Args:
            labels: `[n]` int64, class of each token; -1 for a token of no class.
            n_labels: number of classes; memory grows with `n_labels * d_sae`.

        Returns:
            `[n_labels, d_sae]` in 0..1, float64; 0.5 for a latent that never fires, NaN for an empty class or
            one that has all tokens.
        """
        labelled = labels >= 0
        mine = labelled[self.row]
        pair = labels[self.row[mine]] * self.d_sae + self.latent[mine]
        size = n_labels * self.d_sae

        def per_pair(weights: Tensor | None = None) -> Tensor:
            return torch.bincount(pair, weights, minlength=size).double().view(n_labels, self.d_sae)

        fired_positive = per_pair()
        n_positive = torch.bincount(labels[labelled], minlength=n_labels).double()[:, None]
        n_negative = self.n - n_positive
        fired = torch.bincount(self.latent, minlength=self.d_sae).double()
        silent_negative = n_negative - (fired - fired_positive)
        above_active = per_pair(self.rank[mine]) - fired_positive * (fired_positive + 1) / 2
        above_silent = fired_positive * silent_negative
        ties = (n_positive - fired_positive) * silent_negative / 2
        return (above_active + above_silent + ties) / (n_positive * n_negative)


def _tied_ranks(latent: Tensor, value: Tensor) -> Tensor:
    """Return the positions 1..m in sorted order, averaged over runs of equal value within a latent."""
    if not len(latent):
        return value.double()
    starts = torch.ones_like(latent, dtype=torch.bool)
    starts[1:] = (latent.diff() != 0) | (value.diff() != 0)
    group = starts.cumsum(0) - 1
    return _average_ranks(torch.bincount(group))[group]


def _average_ranks(counts: Tensor) -> Tensor:
    """Return the mean rank of each group of ties, from their sizes in ascending order."""
    return counts.cumsum(0) - (counts - 1).double() / 2
