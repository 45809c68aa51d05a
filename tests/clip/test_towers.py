"""Every family of towers: what is captured, spliced, run from there on, and attributed."""

import copy

import pytest
import torch

from lightning_sae.attribution.gradient import attribute, gradient
from lightning_sae.classifiers.scores import make_score
from lightning_sae.clip import HookPoint, TextClip, capture_context, inspect_hook_point, make_tail, splice
from lightning_sae.types import SparseLatents

from .conftest import check_tail, make_clip
from .families import FAMILIES

OWN_VIT = [
    ("visual.transformer.resblocks.0", "cls", "grid"),
    ("visual.transformer.resblocks.1", "patch", "grid"),
    ("visual.transformer.resblocks.2", "all", "grid"),
    ("visual.transformer.resblocks.1.mlp", "patch", "inputs"),
    ("visual", "pooled", "nothing"),
]
OWN_TEXT = [
    ("transformer.resblocks.0", "all", "inputs"),
    ("transformer.resblocks.0", "eot", "inputs"),
    ("transformer.resblocks.1", "eot", "nothing"),
    ("text", "pooled", "nothing"),
]
CUSTOM_TEXT = [(f"text.{module}".replace("text.text", "text"), *rest) for module, *rest in OWN_TEXT]
LAST = "visual.transformer.resblocks.2"
WORKS = {
    "vit": [*OWN_VIT, (LAST, "cls", "nothing"), *OWN_TEXT],
    "vit, average": [*OWN_VIT, (LAST, "patch", "grid")],
    "vit, average and then layer norm": [*OWN_VIT, (LAST, "patch", "grid")],
    "vit, attention pooling": [*OWN_VIT, (LAST, "cls", "grid"), ("visual.attn_pool", "all", "inputs")],
    "vit, attention pooling, average": [*OWN_VIT, ("visual.ln_post", "all", "inputs")],
    "vit, attention pooling in parallel": [
        *OWN_VIT,
        (LAST, "patch", "grid"),
        ("visual.attn_pool_contrastive", "pooled", "inputs"),
    ],
    "vit, attention pooling in cascade": [*OWN_VIT, ("visual.attn_pool", "all", "inputs")],
    "siglip": [
        ("visual.trunk.blocks.8", "patch", "grid"),
        ("visual.trunk.blocks.4", "all", "grid"),
        ("visual.trunk.attn_pool", "pooled", "inputs"),
        ("visual", "pooled", "nothing"),
        *CUSTOM_TEXT,
    ],
    "coca": [*OWN_VIT, (LAST, "patch", "grid"), *CUSTOM_TEXT],
    "timm vit, class token": [
        ("visual.trunk.blocks.2", "patch", "grid"),
        ("visual.trunk.blocks.4", "cls", "grid"),
        ("visual.trunk.blocks.5", "cls", "nothing"),
        ("visual.trunk.patch_embed", "patch", "inputs"),
        ("visual.trunk", "pooled", "inputs"),
    ],
    "timm vit, register, average": [
        ("visual.trunk.blocks.7", "patch", "grid"),
        ("visual.trunk.blocks.3", "all", "grid"),
    ],
    "timm vit, relative positions": [("visual.trunk.blocks.3", "patch", "inputs")],
    "convnext": [
        ("visual.trunk.stages.1", "patch", "grid"),
        ("visual.trunk.stages.3", "all", "grid"),
        ("visual.trunk.stages.2.blocks.1", "all", "inputs"),
        ("visual.trunk.stages.3.blocks.0.mlp", "patch", "inputs"),
        ("visual.trunk.head.global_pool", "pooled", "inputs"),
    ],
    "swin": [
        ("visual.trunk.layers.0.blocks.0", "patch", "inputs"),
        ("visual.trunk.layers.1", "all", "inputs"),
    ],
    "timm resnet, attention pooling": [("visual.trunk.layer4", "all", "inputs")],
    "timm resnet, rotary attention pooling": [("visual.trunk.layer3", "patch", "inputs")],
    "resnet": [
        ("visual.layer1", "all", "grid"),
        ("visual.layer4", "patch", "grid"),
        ("visual.attnpool", "pooled", "inputs"),
    ],
}
CASES = [
    pytest.param(family, module, tokens, needs, id=f"{family}: {module}:{tokens}")
    for family, points in WORKS.items()
    for module, tokens, needs in points
]
REFUSED = [
    ("vit", LAST, "patch", r"gradient is zero; use .*resblocks\.2:cls or .*resblocks\.1:patch"),
    ("vit, average", LAST, "cls", r"gradient is zero; use .*resblocks\.2:patch or .*resblocks\.1:cls"),
    ("vit, attention pooling", "visual.attn_pool", "cls", "use tokens=all"),
    ("vit, attention pooling", "visual.attn_pool.ln_q", "pooled", "no row per example"),
    ("vit, attention pooling in parallel", "visual.attn_pool", "all", "gradient is zero"),
    ("siglip", "visual.trunk.blocks.3", "cls", "use tokens=patch or all"),
    ("siglip", "visual.trunk.attn_pool.q_norm", "all", "use another module"),
    ("timm vit, register, average", "visual.trunk.blocks.3", "cls", "use tokens=patch or all"),
    ("timm vit, class token", "visual.trunk.blocks.5", "patch", r"use .*blocks\.5:cls or .*blocks\.4:patch"),
    ("convnext", "visual.trunk.stages.2", "cls", "use tokens=patch or all"),
    ("coca", "text.transformer.resblocks.0", "cls", "use tokens=eot or all"),
    ("coca", "text_decoder", "all", "never calls"),
]


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Family -> the CLIP as `TextClip` or `Clip` of a hook point, each made once."""
    made = {}

    def tower(family, point):
        if family not in made:
            made[family] = make_clip(tmp_path_factory.mktemp("family"), FAMILIES[family])
        return TextClip(made[family]) if point.is_text else made[family]

    return tower


def examples(clip, n=2):
    if clip.reads_texts:
        return torch.stack([clip.preprocess(text) for text in ("red", "a photo of a very small dog")[:n]])
    return torch.randn(n, 3, *clip.image_size, generator=torch.Generator().manual_seed(1))


def test_every_family_is_tested():
    assert set(WORKS) == set(FAMILIES)


@pytest.mark.parametrize(("family", "module", "tokens", "needs"), CASES)
def test_spliced_without_a_change_and_run_from_there_on(towers, family, module, tokens, needs):
    point = HookPoint(module, tokens)
    clip = towers(family, point)
    shape, inputs = inspect_hook_point(clip, point), examples(clip)
    expected = clip.encode(inputs)
    assert expected.shape == (2, clip.embed_dim)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(2))
    for settings in ({"fn": lambda x: 0.5 * x.relu()}, {"fn": lambda x: x, "error_term": False}):
        with splice(clip, point, **settings):
            assert torch.equal(clip.encode(inputs), expected)
    with splice(clip, point, lambda x: x + torch.randn(shape), error_term=False):
        assert not torch.allclose(clip.encode(inputs), expected, atol=1e-6)
    check_tail(clip, point, needs, inputs)


@pytest.mark.parametrize(("family", "module", "tokens", "needs"), CASES)
def test_attribution_against_finite_differences(towers, family, module, tokens, needs):
    """The change of the score along any change of the latents, which the attributions predict."""
    point = HookPoint(module, tokens)
    clip = copy.deepcopy(towers(family, point)).double()
    tail = make_tail(clip, point)
    x, context = capture_context(clip, point, tail, examples(clip))
    draw = torch.Generator().manual_seed(0)
    W_dec = torch.randn(24, x.shape[2], generator=draw, dtype=x.dtype)
    dense = torch.rand(x.shape[0] * x.shape[1], 24, generator=draw, dtype=x.dtype).sub(0.7).relu()
    direction = torch.randn(clip.embed_dim, generator=draw, dtype=x.dtype)
    g = gradient(tail, x, make_score(direction), context)
    latents = SparseLatents.from_dense(dense)
    factors = torch.randn(24, generator=draw, dtype=x.dtype)
    predicted = (attribute(latents, W_dec, g.flatten(0, 1)) * factors[latents.indices]).sum()
    step = 1e-5 * ((dense * factors) @ W_dec).view_as(x)
    change = (tail(x + step, context) - tail(x - step, context)) @ direction
    torch.testing.assert_close(predicted, change.sum() / 2e-5, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("family", "module", "tokens", "message"), REFUSED)
def test_what_does_not_work_says_what_does(towers, family, module, tokens, message):
    point = HookPoint(module, tokens)
    with pytest.raises(ValueError, match=message):
        inspect_hook_point(towers(family, point), point)
