"""Images at a hook point with what the autoencoder sees in them, as attribution takes them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

from lightning_sae.data import ActivationDataModule
from lightning_sae.data.probe_images import ProbeImages
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import SparseLatents

CHUNK = 64  # probe images at a time


class Explained(NamedTuple):
    """Some images at a hook point, with what the autoencoder sees in them.

    Attributes:
        tail: `(x, context)` to unit image embeddings, each image on its own.
        W_dec: `[d_sae, d_in]`, decoder in the units of the raw activations.
        x: `[n, t, d_in]` activations.
        x_hat: `[n, t, d_in]` reconstructions.
        latents: of the `n * t` tokens, image by image.
        context: `[n, ...]`, what the tail needs beside `x`, or `None`.
        image_ids: `[n]` int64, `None`: numbered from 0.
    """

    tail: Callable[[Tensor, Tensor | None], Tensor]
    W_dec: Tensor
    x: Tensor
    x_hat: Tensor
    latents: SparseLatents
    context: Tensor | None = None
    image_ids: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        tail: Callable[[Tensor, Tensor | None], Tensor],
        sae: SparseAutoencoder,
        x: Tensor,
        context: Tensor | None = None,
        image_ids: Tensor | None = None,
    ) -> Self:
        """Return images of activations `[n, t, d_in]` with their reconstructions and latents, in float32."""
        x_hat, latents = sae(x.flatten(0, 1))
        latents = latents.with_values(latents.values.float())
        W_dec = sae.W_dec.detach().float()
        return cls(tail, W_dec, x, x_hat.view_as(x).float(), latents, context, image_ids)

    def image_rows(self) -> Tensor:
        """Return the image of each entry of the latents, `[nnz]` in `0..n-1`."""
        return self.latents.rows() // self.x.shape[1]

    def images(self, start: int, stop: int) -> Self:
        """Return the images `start..stop-1`, as views."""
        rows, t = slice(start, stop), self.x.shape[1]
        context, ids = (None if part is None else part[rows] for part in (self.context, self.image_ids))
        return self._replace(
            x=self.x[rows],
            x_hat=self.x_hat[rows],
            latents=self.latents.slice(start * t, stop * t),
            context=context,
            image_ids=ids,
        )

    def keep(self, mask: Tensor) -> Self:
        """Return the images where `mask` `[n]` is true, copied."""
        context, ids = (None if part is None else part[mask] for part in (self.context, self.image_ids))
        return self._replace(
            x=self.x[mask],
            x_hat=self.x_hat[mask],
            latents=self.latents.keep(mask.repeat_interleave(self.x.shape[1])),
            context=context,
            image_ids=ids,
        )


class PassImages(NamedTuple):
    """Images of a validation pass, with what is known of them.

    Attributes:
        explained: activations, reconstructions and latents of the `n` images.
        image_ids: `[n]` int64.
        targets: `[n]` int64, -1 where unknown.
        embeddings: `[n, d_embed]` unit final embeddings.
    """

    explained: Explained
    image_ids: Tensor
    targets: Tensor
    embeddings: Tensor


def explain_probe(data: ActivationDataModule, sae: SparseAutoencoder, rows: Tensor) -> Explained:
    """Return some of the probe images, by their rows `[n]` in it, with what the autoencoder sees in them."""
    return explain_some(data, sae, data.probe, rows)


def explain_some(
    data: ActivationDataModule, sae: SparseAutoencoder, images: ProbeImages, rows: Tensor
) -> Explained:
    """Return some of the images, by their rows `[n]`, with what the autoencoder sees in them."""
    rows = rows.to(images.x.device)
    context = None if images.context is None else images.context[rows]
    return Explained.of(data.tail, sae, images.x[rows], context, images.image_ids[rows])


def probe_images(
    data: ActivationDataModule, sae: SparseAutoencoder, rank: int, world_size: int
) -> Iterator[PassImages]:
    """Yield a rank's share of the probe images, in chunks that are the same on any number of ranks."""
    probe = data.probe
    chunks = torch.split(torch.arange(len(probe.x), device=probe.x.device), CHUNK)
    for rows in chunks[rank::world_size]:
        explained = explain_probe(data, sae, rows)
        embeddings = data.tail(explained.x, explained.context)
        yield PassImages(explained, probe.image_ids[rows], probe.targets[rows], embeddings)
