"""How an autoencoder starts."""

import pytest
import torch

from lightning_sae.sae import TopK
from lightning_sae.sae.initialisation import _best_gain


@pytest.mark.parametrize(("length", "expected"), [(0.5, 1.0), (1.0, 1.0), (2.0, 0.5), (4.0, 0.25)])
def test_the_encoder_becomes_shorter_to_reconstruct_and_never_longer(length, expected):
    """Latents `length * x` by unit decoder rows rebuild `length * x`: least squares ask for `1 / length`."""
    sae = TopK(d_in=3, d_sae=3, k=3)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(3))
        sae.encoder.copy_(length * torch.eye(3))
        sae.b_dec.zero_()
        x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) + 0.1
        assert float(_best_gain(sae, x)) == pytest.approx(expected)
