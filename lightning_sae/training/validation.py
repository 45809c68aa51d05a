"""What a validation pass measures of an autoencoder by itself: reconstruction, sparsity, top images."""

import torch
from torch import Tensor, nn

from lightning_sae.metrics import FVU, L0, Cosine, Density, TopImages, density_quantiles
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import Batch, ValidationOutput

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


class ValidationMetrics(nn.Module):
    """The metrics of an autoencoder over the batches of a validation pass.

    Attributes:
        top_images: of the running or last pass.

    Args:
        sae: what is validated.
        top_n: images kept per latent.
    """

    def __init__(self, sae: SparseAutoencoder, top_n: int) -> None:
        super().__init__()
        self.fvu, self.cosine, self.l0 = FVU(sae.d_in), Cosine(), L0()
        self.firing = Density(sae.d_sae)
        self.top_images = TopImages(top_n, sae.d_sae)

    @property
    def density(self) -> Tensor:
        """`[d_sae]` share of the tokens on which each latent fires; on all ranks or on none."""
        density: Tensor = self.firing.compute()
        return density

    def reset(self) -> None:
        """Forget the last pass."""
        for metric in (self.fvu, self.cosine, self.l0, self.firing, self.top_images):
            metric.reset()

    def step(self, sae: SparseAutoencoder, batch: Batch) -> ValidationOutput:
        """Reconstruct a batch in raw units, and update the metrics.

        Raises:
            ValueError: the batch has no image embeddings.
        """
        if batch.embeddings is None:
            raise ValueError("validation batches must carry image embeddings, got None")
        x_hat, latents = sae(batch.x)
        self.fvu.update(batch.x, x_hat)
        self.cosine.update(batch.x, x_hat)
        self.l0.update(latents)
        self.firing.update(latents)
        self.top_images.update(latents, batch.image_ids)
        latents = latents.with_values(latents.values.float())
        x, x_hat, embeddings = batch.x.float(), x_hat.float(), batch.embeddings.float()
        return ValidationOutput(x, x_hat, latents, batch.image_ids, batch.targets, embeddings)

    @torch.no_grad()
    def values(self, sae: SparseAutoencoder) -> dict[str, Tensor]:
        """Return what the pass logs, by key, in float32; on all ranks or on none."""
        values = {
            "val/fvu": self.fvu.compute(),
            "val/cosine": self.cosine.compute(),
            "val/l0": self.l0.compute(),
        }
        quantiles = density_quantiles(self.density, list(QUANTILES.values()))
        values |= {f"val/density_{name}": value for name, value in zip(QUANTILES, quantiles, strict=True)}
        if sae.normalisation == "layer_norm":
            values["val/fvu_layer_norm"] = values["val/fvu"]  # marked: does not compare with that of others
        return {key: value.float() for key, value in values.items()}
