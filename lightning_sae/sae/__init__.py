"""Sparse autoencoders: the base, one file per variant, saving and loading."""

from lightning_sae.sae.base import SparseAutoencoder, TrainingLoss
from lightning_sae.sae.saving.folder import find_variant, load_sae, save_sae
from lightning_sae.sae.variants.batch_topk import BatchTopK
from lightning_sae.sae.variants.gated import Gated
from lightning_sae.sae.variants.jump_relu import JumpReLU
from lightning_sae.sae.variants.matryoshka import MatryoshkaBatchTopK
from lightning_sae.sae.variants.relu import ReLU
from lightning_sae.sae.variants.topk import TopK

__all__ = [
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "MatryoshkaBatchTopK",
    "ReLU",
    "SparseAutoencoder",
    "TopK",
    "TrainingLoss",
    "find_variant",
    "load_sae",
    "save_sae",
]
