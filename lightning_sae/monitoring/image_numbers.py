"""The numbers of an image that are watched."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import SparseLatents


class ImageNumbers(NamedTuple):
    """The numbers of `n` images, on the CPU.

    Attributes:
        latents: those that are active on each image; the sum over its tokens.
        shares: the same, with their parts of the image's positive attribution to the predicted class,
            `max(0, R_j) / sum_k max(0, R_k)`; 0 for an image that is not attributed.
        predicted: `[n]` int64, class.
        attributed: `[n]` bool.
        culprits: `[n]`, share of the positive attribution that the culprits of the audit's findings about the
            predicted class have; 0 where there are none.
        error: `[n]`, share of the activation that no latent explains, `sum_t |x - x_hat|^2 / sum_t |x - b|^2`
            over an image's tokens with `b` the reconstruction of no latents, at most 1.
    """

    latents: SparseLatents
    shares: SparseLatents
    predicted: Tensor
    attributed: Tensor
    culprits: Tensor
    error: Tensor

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.predicted)

    def images(self, start: int, stop: int) -> Self:
        """Return the images `start..stop-1`."""
        latents, shares = (part.slice(start, stop) for part in self[:2])
        return type(self)(latents, shares, *(part[start:stop] for part in self[2:]))

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Return the images of all parts, one after the other."""
        latents, shares = (SparseLatents.stack(some) for some in zip(*(p[:2] for p in parts), strict=True))
        return cls(latents, shares, *(torch.cat(some) for some in zip(*(p[2:] for p in parts), strict=True)))

    @classmethod
    def none(cls, d_sae: int) -> Self:
        """Return no images."""
        latents = SparseLatents.from_dense(torch.zeros(0, d_sae))
        counts, flags, zeros = torch.zeros(0).long(), torch.zeros(0).bool(), torch.zeros(0)
        return cls(latents, latents, counts, flags, zeros, zeros)


@torch.no_grad()
def image_numbers(
    explained: Explained,
    sae: SparseAutoencoder,
    scores: ClassScores,
    culprits: Mapping[int, Sequence[int]],
    attributed: Tensor,
) -> ImageNumbers:
    """Return what is watched of some images.

    Args:
        explained: the images.
        sae: the autoencoder that they were explained by.
        scores: of the classifier.
        culprits: class -> latents.
        attributed: `[n]` bool on the CPU, the images whose attributions are asked for; each costs a gradient
            through the tail.
    """
    t = explained.x.shape[1]
    predicted = scores.logits(explained.tail(explained.x, explained.context)).argmax(1)
    active = explained.latents.sum_tokens(t)
    shares = torch.zeros_like(active.values)
    chosen = attributed.to(predicted.device)
    if bool(attributed.any()):
        own = attribute_own(explained.keep(chosen), scores, predicted[chosen])
        shares[chosen[active.rows()]] = _shares(own)
    by_culprits = _culprit_share(active.with_values(shares), predicted, culprits)
    on = active.values > 0
    latents = _only(active, on).to("cpu")
    return ImageNumbers(
        latents,
        latents.with_values(shares[on].cpu()),
        predicted.cpu(),
        attributed,
        by_culprits.cpu(),
        _error(explained, sae).cpu(),
    )


def _shares(attributions: SparseLatents) -> Tensor:
    """Return the share that each entry has of the positive attribution of its image, `[nnz]`."""
    positive, rows = attributions.values.clamp(min=0), attributions.rows()
    total = positive.new_zeros(len(attributions)).index_add_(0, rows, positive)
    return positive / total[rows].clamp(min=torch.finfo(positive.dtype).tiny)


def _culprit_share(shares: SparseLatents, predicted: Tensor, culprits: Mapping[int, Sequence[int]]) -> Tensor:
    total, rows = shares.values.new_zeros(len(shares)), shares.rows()
    for c, latents in culprits.items():
        theirs = torch.isin(shares.indices, torch.tensor(latents, device=shares.indices.device))
        theirs &= predicted[rows] == c
        total.index_add_(0, rows[theirs], shares.values[theirs])
    return total.clamp(max=1)


def _error(explained: Explained, sae: SparseAutoencoder) -> Tensor:
    x = explained.x.flatten(0, 1)
    size = (x - sae.bias(x)).square().sum(1).view(explained.x.shape[:2]).sum(1)
    left = (explained.x - explained.x_hat).square().sum((1, 2))
    return (left / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1)


def _only(latents: SparseLatents, kept: Tensor) -> SparseLatents:
    """Return the entries that are kept."""
    counts = torch.bincount(latents.rows()[kept], minlength=len(latents))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseLatents(latents.values[kept], latents.indices[kept], offsets, latents.d_sae)
