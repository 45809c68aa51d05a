"""Which latents fire on which validation images, so that the latents of two runs can be matched."""

import torch

from callbacks.base import Pass, PassCallback
from lightning_sae.runs.image_latents import choose_images, save_image_latents
from lightning_sae.tracking.publish import run_dir


class SaveImageLatents(PassCallback):
    """Writes `image_latents.safetensors` after each validation pass, for `lightning-sae compare`.

    Args:
        images: at most so many validation images, by chance, the same in every run on the same images. An
            image costs 8 bytes per active latent: 10,000 images with 64 latents 5 MB.
    """

    needs_latents = True
    logs = ()

    def __init__(self, images: int = 10_000) -> None:
        if images < 1:
            raise ValueError(f"images must be at least 1, got {images}")
        self.images = images

    def finish(self, pass_: Pass) -> None:
        """Keep the chosen images that the pass had."""
        latents, ids = pass_.latents  # every rank: it may synchronise
        if not pass_.trainer.is_global_zero:
            return
        images = pass_.data.images("val")
        chosen = torch.isin(ids.cpu(), choose_images(len(images), self.images)).to(ids.device)
        save_image_latents(run_dir(pass_.trainer), latents.keep(chosen), ids[chosen], images.identity())
