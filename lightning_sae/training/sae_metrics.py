"""What is measured of each autoencoder of a training."""

from torch import Tensor, nn

from lightning_sae.metrics import FVU, L0, Cosine, Density, TopImages, density_quantiles
from lightning_sae.sae import SparseAutoencoder
from lightning_sae.types import SparseLatents

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
MEASURED = ("fvu", "fvu_layer_norm", "cosine", "l0", "dead_fraction", *(f"density_{q}" for q in QUANTILES))
"""Names of the values of a validation pass."""


class SAEMetrics(nn.Module):
    """The metrics of one autoencoder over a validation pass.

    Args:
        d_in: width of the activations.
        d_sae: number of latents.
        top_n: images kept per latent.

    Attributes:
        firing: share of the tokens on which each latent fires.
        top_images: the top images of each latent.
        dead: `[d_sae]` bool, never active on the whole train store; `None` until the end of `fit`.
    """

    fvu: FVU
    cosine: Cosine
    l0: L0
    firing: Density
    top_images: TopImages

    def __init__(self, d_in: int, d_sae: int, top_n: int) -> None:
        super().__init__()
        self.fvu, self.cosine, self.l0 = FVU(d_in), Cosine(), L0()
        self.firing, self.top_images = Density(d_sae), TopImages(top_n, d_sae)
        self.dead: Tensor | None = None

    def reset(self) -> None:
        """Forget the last pass."""
        for metric in (self.fvu, self.cosine, self.l0, self.firing, self.top_images):
            metric.reset()

    def update(self, x: Tensor, x_hat: Tensor, latents: SparseLatents, image_ids: Tensor) -> None:
        """Take a batch.

        Args:
            x: `[n, d_in]`, raw.
            x_hat: their reconstruction.
            latents: of the `n` tokens.
            image_ids: `[n]` int64.
        """
        self.fvu.update(x, x_hat)
        self.cosine.update(x, x_hat)
        self.l0.update(latents)
        self.firing.update(latents)
        self.top_images.update(latents, image_ids)

    def values(self, sae: SparseAutoencoder) -> dict[str, Tensor]:
        """Return the values of the pass by their names, scalars in float32; on all ranks or on none."""
        values = {
            "fvu": self.fvu.compute(),
            "cosine": self.cosine.compute(),
            "l0": self.l0.compute(),
            "dead_fraction": sae.dead.float().mean(),
        }
        quantiles = density_quantiles(self.firing.compute(), list(QUANTILES.values()))
        values |= {f"density_{name}": value for name, value in zip(QUANTILES, quantiles, strict=True)}
        if sae.normalisation == "layer_norm":
            values["fvu_layer_norm"] = values["fvu"]  # marked: does not compare with that of others
        return {name: value.float() for name, value in values.items()}
