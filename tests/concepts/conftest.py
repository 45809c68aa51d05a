"""Latents of images with a factor of six values, four of which a latent tells."""

import pytest
import torch

N, D_SAE, VALUES = 240, 30, 6


@pytest.fixture
def labels():
    """Values 0..4 of some images; none has value 5, some have none."""
    return torch.randint(-1, 5, (N,), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense(labels):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randint(1, 6, (N, D_SAE), generator=generator).float()
    latents *= torch.rand(N, D_SAE, generator=generator) < 0.15
    for value in range(4):
        latents[:, 7 * value] += 2.0 * (labels == value) * (torch.rand(N, generator=generator) < 0.7)
    latents[:, 5] = 0
    return latents
