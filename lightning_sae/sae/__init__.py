"""Sparse autoencoders: the base, one file per variant, saving and loading."""

from lightning_sae.sae.base import SparseAutoencoder, TrainingLoss
from lightning_sae.sae.batch_topk import BatchTopK
from lightning_sae.sae.checkpoint import find_variant, load_sae, save_sae
from lightning_sae.sae.clipping import clip_by_scale
from lightning_sae.sae.gated import Gated
from lightning_sae.sae.jump_relu import JumpReLU
from lightning_sae.sae.matryoshka import MatryoshkaBatchTopK
from lightning_sae.sae.relu import ReLU
from lightning_sae.sae.topk import TopK

__all__ = [
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "MatryoshkaBatchTopK",
    "ReLU",
    "SparseAutoencoder",
    "TopK",
    "TrainingLoss",
    "clip_by_scale",
    "find_variant",
    "load_sae",
    "save_sae",
]
