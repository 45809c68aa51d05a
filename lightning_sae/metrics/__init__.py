"""Metrics: pure functions, and `torchmetrics.Metric`s that keep sums and call them."""

from lightning_sae.metrics.auroc import ActiveRanks, auroc, sparse_auroc
from lightning_sae.metrics.bootstrap import Interval, interval, mean_in_units
from lightning_sae.metrics.density import L0, Density, density, density_quantiles, l0
from lightning_sae.metrics.image_activations import ImageActivations
from lightning_sae.metrics.image_errors import ImageErrors
from lightning_sae.metrics.image_latents import ImageLatents, max_over_tokens
from lightning_sae.metrics.modality import Modality, fires_on, modality_score
from lightning_sae.metrics.monosemanticity import MonoSemanticity, monosemanticity
from lightning_sae.metrics.reconstruction import FVU, Cosine, cosine, fvu
from lightning_sae.metrics.token_maps import MoransI, TokenMaps, morans_i
from lightning_sae.metrics.top_images import TopImages, top_images

__all__ = [
    "FVU",
    "L0",
    "ActiveRanks",
    "Cosine",
    "Density",
    "ImageActivations",
    "ImageErrors",
    "ImageLatents",
    "Interval",
    "Modality",
    "MonoSemanticity",
    "MoransI",
    "TokenMaps",
    "TopImages",
    "auroc",
    "cosine",
    "density",
    "density_quantiles",
    "fires_on",
    "fvu",
    "interval",
    "l0",
    "max_over_tokens",
    "mean_in_units",
    "modality_score",
    "monosemanticity",
    "morans_i",
    "sparse_auroc",
    "top_images",
]
