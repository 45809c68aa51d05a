"""Random towers of several kinds in float64, with random autoencoders at two of their hook points."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.edges.layers import Layer, look
from lightning_sae.clip import activations_at
from lightning_sae.sae import TopK

from ...clip.conftest import config, make_clip
from ...clip.families import FAMILIES

D_SAE = 24


def random_sae(x, seed=0, k=3):
    """A TopK autoencoder in float64 that has something to say about activations `[n, d]`."""
    torch.manual_seed(seed)
    sae = TopK(x.shape[1], D_SAE, k=k).double()
    with torch.no_grad():
        sae.encoder.copy_(normalize(torch.randn_like(sae.encoder), dim=1))
        sae.b_dec.copy_(x.mean(0))
        sae.b_enc.normal_(0, 0.1)
    return sae.eval()


def seen_at(clip, hook_points, n=3, seed=3):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(n, 3, *clip.image_size, generator=generator)
    found = activations_at(clip, hook_points, pixels)
    layers = [Layer(h, random_sae(found[h].flatten(0, 1), seed=i)) for i, h in enumerate(hook_points)]
    return look(clip, layers, pixels)


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Name of the family -> its tower, made when first asked for."""
    made = {}

    def tower(name):
        if name not in made:
            made[name] = make_clip(tmp_path_factory.mktemp("tower"), FAMILIES[name]).double()
        return made[name]

    return tower


@pytest.fixture(scope="session")
def deep(tmp_path_factory):
    """A ViT of four blocks."""
    return make_clip(tmp_path_factory.mktemp("deep"), config(layers=4)).double()
