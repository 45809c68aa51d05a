"""Sparse autoencoders: the base, one file per variant, saving and loading."""

from lightning_sae.sae.backend import use_backend
from lightning_sae.sae.base import SparseAutoencoder, TrainingLoss
from lightning_sae.sae.checkpoint import find_variant, load_sae, save_sae
from lightning_sae.sae.clipping import clip_by_scale
from lightning_sae.sae.topk import TopK

__all__ = [
    "SparseAutoencoder",
    "TopK",
    "TrainingLoss",
    "clip_by_scale",
    "find_variant",
    "load_sae",
    "save_sae",
    "use_backend",
]
