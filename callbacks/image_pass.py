"""One pass over images for what needs the tail: the validation batches where it is cheap, else the probe."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.parts import data_of, sae_of
from lightning_sae.attribution.methods import Explained
from lightning_sae.clip import Tail
from lightning_sae.types import SparseLatents, ValidationOutput

CHUNK = 64  # probe images at a time


class Images(NamedTuple):
    """Some images with all their tokens.

    Attributes:
        x: `[n, t, d_in]` activations.
        x_hat: `[n, t, d_in]` reconstructions.
        latents: of the `n * t` tokens, image by image.
        image_ids: `[n]` int64.
        targets: `[n]` int64, -1 where unknown.
        embeddings: `[n, d_embed]` unit final embeddings.
        context: what the tail needs beside `x`, or `None`.
    """

    x: Tensor
    x_hat: Tensor
    latents: SparseLatents
    image_ids: Tensor
    targets: Tensor
    embeddings: Tensor
    context: Tensor | None

    def explain(self, tail: Tail, W_dec: Tensor) -> Explained:
        """What attribution methods take."""
        return Explained(tail, W_dec, self.x, self.x_hat, self.latents, self.context, self.image_ids)


class ImagePassCallback(Callback):
    """Base of the callbacks that run the tail: `begin`, `add` for some images at a time, `finish`.

    Where the tail needs nothing but the selected token, `add` gets every validation batch; elsewhere it gets
    the datamodule's probe images once, at the end of the pass. Ranks share the images.
    """

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A pass starts."""

    def add(self, trainer: Trainer, pl_module: LightningModule, images: Images) -> None:
        """Some images of the pass."""

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The pass is over: log."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts a pass."""
        if not trainer.sanity_checking:
            self.begin(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: ValidationOutput,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hands on the batch, where that is enough."""
        if not trainer.sanity_checking and data_of(trainer).tail.needs == "nothing":
            images = outputs._replace(x=outputs.x[:, None], x_hat=outputs.x_hat[:, None])
            self.add(trainer, pl_module, Images(*images, context=None))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hands on the probe, where that is needed, and ends the pass."""
        if trainer.sanity_checking:
            return
        if data_of(trainer).tail.needs != "nothing":
            for images in probe_images(trainer, pl_module):
                self.add(trainer, pl_module, images)
        self.finish(trainer, pl_module)


def probe_images(trainer: Trainer, pl_module: LightningModule) -> Iterator[Images]:
    """This rank's share of the probe images, in chunks that are the same on any number of ranks."""
    data = data_of(trainer)
    probe = data.probe
    chunks = torch.split(torch.arange(len(probe.x), device=probe.x.device), CHUNK)
    for rows in chunks[trainer.global_rank :: trainer.world_size]:
        x, context = probe.x[rows], None if probe.context is None else probe.context[rows]
        x_hat, latents = reconstruct(pl_module, x)
        ids, targets = probe.image_ids[rows], probe.targets[rows]
        yield Images(x, x_hat, latents, ids, targets, data.tail(x, context), context)


def reconstruct(pl_module: LightningModule, x: Tensor) -> tuple[Tensor, SparseLatents]:
    """Images of activations `[n, t, d_in]` -> their reconstructions and latents, in float32."""
    x_hat, latents = sae_of(pl_module).sae(x.flatten(0, 1))
    return x_hat.view_as(x).float(), latents.with_values(latents.values.float())
