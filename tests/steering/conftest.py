"""An autoencoder whose latents are planted: orthonormal rows, so that an edit has a closed form."""

import pytest
import torch

from lightning_sae.clip import load_clip
from lightning_sae.sae import ReLU
from lightning_sae.world import config_path, weights_path


@pytest.fixture
def planted():
    """Latents 0..5 read and write one orthonormal direction each, of eight dimensions: two are error."""
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double())[0]
    sae = ReLU(d_in=8, d_sae=6, l1_weight=0.0, normalisation="none").double().eval()
    with torch.no_grad():
        sae.encoder.copy_(rotation[:6])
        sae.W_dec.copy_(rotation[:6])
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae.requires_grad_(False)


@pytest.fixture(scope="session")
def world_clip():
    return load_clip(config_path(), weights_path("biased"))
