"""Setting and scaling latents: the closed form of planted ones, and plain forward hooks."""

import pytest
import torch

import lightning_sae as ls
from lightning_sae.clip import HookPoint
from lightning_sae.sae import TopK
from lightning_sae.steering.intervention import Scale, check_edits, edited, intervene

POINTS = [
    ("visual.transformer.resblocks.3", "cls"),
    ("visual.transformer.resblocks.1", "patch"),
    ("visual.transformer.resblocks.0", "all"),
    ("visual", "pooled"),
]


def test_set_latents_have_their_value_and_nothing_else_moves(planted):
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)).double()
    steered = edited(planted, x, {1: 2.5, 4: 0.0})
    coordinates, before = steered @ planted.W_dec.T, x @ planted.W_dec.T
    assert coordinates[:, 1] == pytest.approx(before[:, 1] + 2.5 - before[:, 1].clamp(min=0))
    assert coordinates[:, 4] == pytest.approx(before[:, 4].clamp(max=0))
    kept = [0, 2, 3, 5]
    torch.testing.assert_close(coordinates[:, kept], before[:, kept])
    project = planted.W_dec.T @ planted.W_dec
    torch.testing.assert_close(steered - steered @ project, x - x @ project)  # the error term
    on = before[:, 1] > 0
    torch.testing.assert_close(
        planted.encode(steered).to_dense()[on, 1], torch.full((int(on.sum()),), 2.5).double()
    )


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 3.0])
def test_scaled_latents(planted, factor):
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)).double()
    expected = x + (factor - 1) * (x @ planted.W_dec[3]).clamp(min=0)[:, None] * planted.W_dec[3]
    torch.testing.assert_close(edited(planted, x, {3: Scale(factor)}), expected)


def test_scaling_a_silent_latent_changes_no_bit_and_setting_it_does(planted):
    x = -2 * planted.W_dec[:1].repeat(3, 1)
    assert torch.equal(edited(planted, x, {0: Scale(7.0)}), x)
    torch.testing.assert_close(edited(planted, x, {0: 3.0}), planted.W_dec[:1].repeat(3, 1))


@pytest.fixture(params=POINTS, ids=str)
def steerable(request, world_clip):
    """A hook point, an autoencoder of its width with random rows, and pictures."""
    hook = HookPoint(*request.param)
    pooled = hook.tokens == "pooled"
    width = world_clip.embed_dim if pooled else world_clip.visual.ln_post.weight.shape[0]
    torch.manual_seed(0)
    return hook, TopK(width, 32, k=6).eval().requires_grad_(False), torch.randn(3, 3, *world_clip.image_size)


@torch.no_grad()
def test_scale_1_leaves_every_bit(world_clip, steerable):
    hook, sae, pixels = steerable
    plain = world_clip.encode_image(pixels)
    with intervene(world_clip, hook, sae, {j: Scale(1.0) for j in range(32)}):
        same = world_clip.encode_image(pixels)
    assert torch.equal(plain, same)


@torch.no_grad()
def test_it_is_what_a_plain_hook_does(world_clip, steerable):
    hook, sae, pixels = steerable

    def edit(_module, _args, output):
        rows = {"cls": slice(0, 1), "patch": slice(1, None), "all": slice(None), "pooled": None}[hook.tokens]
        part = output if rows is None else output[:, rows].flatten(0, 1)
        a = sae.encode(part).to_dense()
        b = a.clone()
        b[:, 3], b[:, 9] = 2.0, -0.5 * a[:, 9]
        new = output.clone()
        if rows is None:
            return output + (b - a) @ sae.W_dec
        new[:, rows] += ((b - a) @ sae.W_dec).view_as(output[:, rows])
        return new

    handle = world_clip.model.get_submodule(hook.module).register_forward_hook(edit)
    expected = world_clip.encode_image(pixels)
    handle.remove()
    plain = world_clip.encode_image(pixels)
    with ls.intervene(world_clip, hook, sae, {3: 2.0, 9: ls.Scale(-0.5)}):
        found = world_clip.encode_image(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(world_clip.encode_image(pixels), plain)  # nothing is left behind


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({}, "no latent is edited"),
        ({6: 0.0}, r"one of 0\.\.5, got 6"),
        ({-1: 0.0}, r"one of 0\.\.5, got -1"),
        ({2: float("nan")}, "finite number"),
        ({2: Scale(float("inf"))}, "finite number"),
    ],
)
def test_edits_that_are_none(edits, message):
    with pytest.raises(ValueError, match=message):
        check_edits(edits, 6)
