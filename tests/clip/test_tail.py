import copy

import pytest
import torch

from lightning_sae.clip import HookPoint, capture_context, make_tail

from .conftest import check_tail

BLOCK = "visual.transformer.resblocks."
VIT_TAILS = [
    ("visual", "pooled", "nothing"),
    (f"{BLOCK}2", "cls", "nothing"),
    (f"{BLOCK}2", "all", "grid"),
    (f"{BLOCK}1", "cls", "grid"),
    (f"{BLOCK}1", "patch", "grid"),
    (f"{BLOCK}0", "all", "grid"),
    (f"{BLOCK}1.mlp", "cls", "inputs"),
    (f"{BLOCK}1.attn", "patch", "inputs"),
    ("visual.ln_pre", "all", "inputs"),
]


@pytest.mark.parametrize(("module", "tokens", "needs"), VIT_TAILS)
def test_tail_is_the_rest_of_the_model(clip, pixels, module, tokens, needs):
    check_tail(clip, HookPoint(module, tokens), needs, pixels)


@pytest.mark.parametrize(
    ("module", "tokens"), [(f"{BLOCK}2", "patch"), (f"{BLOCK}1", "cls"), (f"{BLOCK}2", "all")]
)
def test_tail_of_an_averaging_tower(averaged_clip, pixels, module, tokens):
    check_tail(averaged_clip, HookPoint(module, tokens), "grid", pixels)


@pytest.mark.parametrize(
    ("module", "needs"),
    [("visual.layer3", "grid"), ("visual.layer1.0.bn2", "inputs"), ("visual.layer2.0.bn3", "inputs")],
)
def test_tail_of_a_convolutional_tower(resnet_clip, pixels, module, needs):
    check_tail(resnet_clip, HookPoint(module, "all"), needs, pixels)


@pytest.mark.parametrize(("module", "tokens", "needs"), VIT_TAILS)
def test_gradient_against_finite_differences(clip, pixels, module, tokens, needs):
    point, double = HookPoint(module, tokens), copy.deepcopy(clip).double()
    tail = make_tail(double, point)
    x, context = capture_context(double, point, tail, pixels[:2])
    text = double.encode_text(["red", "dog"])
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    with torch.inference_mode(), torch.inference_mode(False), torch.enable_grad():
        z = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((tail(z, context) * text).sum(), z)
    step = 1e-5 * direction
    difference = ((tail(x + step, context) - tail(x - step, context)) * text).sum() / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("module", "tokens", "needs"), VIT_TAILS)
def test_forward_mode_agrees_with_reverse_mode(clip, pixels, module, tokens, needs):
    point = HookPoint(module, tokens)
    tail = make_tail(clip, point)
    x, context = capture_context(clip, point, tail, pixels)
    direction, text = torch.randn_like(x), clip.encode_text(["red"])
    enabled = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        _, tangent = torch.func.jvp(lambda z: (tail(z, context) * text).sum(), (x,), (direction,))
    z = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((tail(z, context) * text).sum(), z)
    torch.testing.assert_close(tangent, (gradient * direction).sum(), rtol=1e-3, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled() == enabled


def test_embedding_does_not_depend_on_the_scale_of_the_last_activation(clip, pixels):
    """Homogeneous of degree 0 up to the layer norm's eps, so <x, gradient> vanishes."""
    point = HookPoint(f"{BLOCK}2", "cls")
    tail = make_tail(clip, point)
    x = (100 * capture_context(clip, point, tail, pixels)[0]).requires_grad_()
    (gradient,) = torch.autograd.grad(tail(x)[:, 0].sum(), x)
    assert (x * gradient).sum().abs() < 1e-4 * (x * gradient).abs().sum()


def test_what_was_captured_in_inference_mode_may_enter_autograd(clip, pixels):
    point = HookPoint(f"{BLOCK}1", "patch")
    tail = make_tail(clip, point)
    with torch.inference_mode():
        x, context = capture_context(clip, point, tail, pixels)
    assert tail(x.requires_grad_(), context).requires_grad


def test_errors_say_what_is_needed(clip, pixels):
    tail = make_tail(clip, HookPoint(f"{BLOCK}1", "cls"))
    x, context = capture_context(clip, tail.hook_point, tail, pixels)
    with pytest.raises(ValueError, match="needs the examples' grid as context, got none"):
        tail(x)
    with pytest.raises(ValueError, match="got 2 rows for 3 examples"):
        tail(x, context[:2])
