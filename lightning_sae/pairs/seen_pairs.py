"""Pairs as CLIP and the autoencoder see them; CLIP runs once over their images, and the store keeps that."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import torch
from scipy.sparse import csr_array
from torch import Tensor

from lightning_sae.attribution.explained import CHUNK, Explained, explain_some
from lightning_sae.concepts.csr import csr_of
from lightning_sae.data import ActivationDataModule
from lightning_sae.data.probe_images import ProbeImages
from lightning_sae.metrics import max_over_tokens
from lightning_sae.pairs.pair import Contrast, PairSource
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import SparseLatents


class SeenPairs(NamedTuple):
    """Pairs with the activations of their images at the hook point.

    Attributes:
        images: `m` images, each once.
        before: `[p]` int64, the first image of each pair.
        after: `[p]` int64, the second one.
        contrasts: in what they differ.
    """

    images: ProbeImages
    before: Tensor
    after: Tensor
    contrasts: Sequence[Contrast]

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Return the pairs of all parts, one after the other."""
        ends = torch.tensor([0, *(len(part.images.x) for part in parts)]).cumsum(0).tolist()
        starts = list(zip(parts, ends, strict=False))
        contexts = [part.images.context for part in parts if part.images.context is not None]
        images = ProbeImages(
            torch.cat([part.images.image_ids + start for part, start in starts]),
            torch.cat([part.images.targets for part in parts]),
            torch.cat([part.images.x for part in parts]),
            torch.cat(contexts) if contexts else None,
        )
        before, after = (
            torch.cat([side + start for side, start in zip(sides, ends, strict=False)])
            for sides in ([part.before for part in parts], [part.after for part in parts])
        )
        return cls(images, before, after, [contrast for part in parts for contrast in part.contrasts])

    def explained(self, data: ActivationDataModule, sae: SparseAutoencoder) -> Iterator[Explained]:
        """Yield the images with what an autoencoder sees in them, in parts."""
        for rows in torch.split(torch.arange(len(self.images.x)), CHUNK):
            yield explain_some(data, sae, self.images, rows)

    @torch.no_grad()
    def changes(self, sae: SparseAutoencoder) -> csr_array:
        """Return `[p, d_sae]`: the latents of the second image of each pair less those of the first.

        The activation of a latent on an image is its largest one over the image's tokens.
        """
        parts = []
        for x in torch.split(self.images.x, CHUNK):
            ids = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
            parts.append(max_over_tokens(sae.encode(x.flatten(0, 1)), ids)[0])
        latents = csr_of(SparseLatents.stack(parts))
        changes: csr_array = latents[self.after.numpy()] - latents[self.before.numpy()]
        return changes


def see_pairs(data: ActivationDataModule, source: PairSource) -> SeenPairs | None:
    """Run CLIP over the images of a source's pairs, or read what the store has kept of that.

    Args:
        data: set up.
        source: of the pairs.

    Returns:
        On the device of the data; `None` where the source has no pairs for them.
    """
    found = source.pairs(data.images("val"))
    if found is None:
        return None
    return SeenPairs(data.look_at(found.images), found.before, found.after, found.contrasts)
