"""A small random ViT in float64, and images seen at any of its hook points by a random autoencoder."""

import json
from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.clip import Clip, HookPoint, capture_context, load_clip, make_tail
from lightning_sae.types import SparseLatents

D_SAE, WIDTH, D_EMBED = 24, 32, 16
HOOKS = {
    "last": HookPoint("visual.transformer.resblocks.2", "cls"),
    "final": HookPoint("visual", "pooled"),
    "cls": HookPoint("visual.transformer.resblocks.0", "cls"),
    "patch": HookPoint("visual.transformer.resblocks.1", "patch"),
    "mlp": HookPoint("visual.transformer.resblocks.1.mlp", "all"),
}


def load_random(folder):
    """Three blocks, with layer norms that do something."""
    config = {
        "embed_dim": D_EMBED,
        "vision_cfg": {"layers": 3, "width": WIDTH, "head_width": 16, "patch_size": 16, "image_size": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "tiny.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="random weights"):
        loaded = load_clip(folder / "tiny.json")
    with torch.no_grad():
        loaded.visual.ln_post.weight.uniform_(0.5, 1.5)
        loaded.visual.ln_post.bias.normal_(0, 0.1)
    return loaded


@pytest.fixture(scope="session")
def double(tmp_path_factory):
    return load_random(tmp_path_factory.mktemp("clip")).double()


class Case(NamedTuple):
    explained: Explained
    b_dec: torch.Tensor
    pixels: torch.Tensor
    clip: Clip
    hook: HookPoint


def look(clip, hook, n=5):
    """Images with up to three active latents a token; the second token of all has none."""
    generator = torch.Generator().manual_seed(2)
    tail, pixels = make_tail(clip, hook), torch.randn(n, 3, 32, 32, generator=generator)
    x, context = capture_context(clip, hook, tail, pixels)
    tokens = x.flatten(0, 1)
    W_dec = normalize(torch.randn(D_SAE, x.shape[2], generator=generator).to(x), dim=1)
    b_dec = tokens.mean(0) + 0.1
    values, indices = ((tokens - b_dec) @ W_dec.T).relu().topk(3)
    dense = torch.zeros(len(tokens), D_SAE).to(x).scatter(1, indices, values)
    dense[1] = 0
    x_hat, ids = (dense @ W_dec + b_dec).view_as(x), torch.arange(100, 100 + n)
    latents = SparseLatents.from_dense(dense)
    return Case(Explained(tail, W_dec, x, x_hat, latents, context, ids), b_dec, pixels, clip, hook)


@pytest.fixture(params=HOOKS)
def case(request, double):
    return look(double, HOOKS[request.param])


@pytest.fixture
def explained(case):
    return case.explained


@pytest.fixture
def last(double):
    return look(double, HOOKS["last"]).explained


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(3)
    return normalize(torch.randn(4, D_EMBED, generator=generator).double(), dim=-1)


@pytest.fixture
def probe():
    generator = torch.Generator().manual_seed(4)
    weight, bias = torch.randn(4, D_EMBED, generator=generator), torch.randn(4, generator=generator)
    return LinearClassifier(6 * weight.double(), bias.double())
