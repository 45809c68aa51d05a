"""What a validation pass measures of an autoencoder by itself: reconstruction, sparsity, top images."""

import torch
from torch import Tensor, nn

from lightning_sae.metrics import FVU, L0, Cosine, Density, TopImages, density_quantiles
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import Batch, SparseLatents, ValidationOutput

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
MEASURED = ("fvu", "fvu_layer_norm", "cosine", "l0", "dead_fraction", *(f"density_{q}" for q in QUANTILES))
"""Names of the values of a validation pass."""


class ValidationMetrics(nn.Module):
    """The metrics of an autoencoder over the batches of a validation pass.

    Attributes:
        top_images: of the running or last pass.
        dead: `[d_sae]` bool, never active on the whole train store; `None` until the end of `fit`.

    Args:
        sae: what is validated.
        top_n: images kept per latent.
    """

    def __init__(self, sae: SparseAutoencoder, top_n: int) -> None:
        super().__init__()
        self.fvu, self.cosine, self.l0 = FVU(sae.d_in), Cosine(), L0()
        self.firing = Density(sae.d_sae)
        self.top_images = TopImages(top_n, sae.d_sae)
        self.dead: Tensor | None = None

    @property
    def density(self) -> Tensor:
        """`[d_sae]` share of the tokens on which each latent fires; on all ranks or on none."""
        density: Tensor = self.firing.compute()
        return density

    def reset(self) -> None:
        """Forget the last pass."""
        for metric in (self.fvu, self.cosine, self.l0, self.firing, self.top_images):
            metric.reset()

    def update(self, sae: SparseAutoencoder, x: Tensor, image_ids: Tensor) -> tuple[Tensor, SparseLatents]:
        """Reconstruct a batch in raw units, and take it.

        Args:
            sae: what is validated.
            x: `[n, d_in]`, raw.
            image_ids: `[n]` int64.

        Returns:
            `x_hat` and the latents.
        """
        x_hat, latents = sae(x)
        self.fvu.update(x, x_hat)
        self.cosine.update(x, x_hat)
        self.l0.update(latents)
        self.firing.update(latents)
        self.top_images.update(latents, image_ids)
        return x_hat, latents

    def step(self, sae: SparseAutoencoder, batch: Batch) -> ValidationOutput:
        """Reconstruct a batch in raw units, take it, and return it for the callbacks, in float32.

        Raises:
            ValueError: the batch has no image embeddings.
        """
        if batch.embeddings is None:
            raise ValueError("validation batches must carry image embeddings, got None")
        x_hat, latents = self.update(sae, batch.x, batch.image_ids)
        latents = latents.with_values(latents.values.float())
        x, x_hat, embeddings = batch.x.float(), x_hat.float(), batch.embeddings.float()
        return ValidationOutput(x, x_hat, latents, batch.image_ids, batch.targets, embeddings)

    @torch.no_grad()
    def values(self, sae: SparseAutoencoder) -> dict[str, Tensor]:
        """Return the values of the pass by their names, scalars in float32; on all ranks or on none."""
        values = {
            "fvu": self.fvu.compute(),
            "cosine": self.cosine.compute(),
            "l0": self.l0.compute(),
            "dead_fraction": sae.dead.float().mean(),
        }
        quantiles = density_quantiles(self.density, list(QUANTILES.values()))
        values |= {f"density_{name}": value for name, value in zip(QUANTILES, quantiles, strict=True)}
        if sae.normalisation == "layer_norm":
            values["fvu_layer_norm"] = values["fvu"]  # marked: does not compare with that of others
        return {name: value.float() for name, value in values.items()}
