import copy

import pytest
import torch

from lightning_sae.clip import HookPoint, HookShape, activations_at, capture, inspect_hook_point, splice
from lightning_sae.clip.token_rules import fitting_tokens, select

BLOCK = "visual.transformer.resblocks."


def hooks_left(clip):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in clip.modules())


def test_capture_several_in_one_pass_equals_open_clips_own_intermediates(clip, pixels):
    points = [HookPoint(f"{BLOCK}1", rule) for rule in ("cls", "patch", "all")] + [
        HookPoint("visual", "pooled")
    ]
    with capture(clip, points) as activations:
        clip.encode_image(pixels)
    cls, patch, everything, final = (activations[point] for point in points)
    own = clip.visual.forward_intermediates(pixels, output_fmt="NLC", output_extra_tokens=True)
    torch.testing.assert_close(patch, own["image_intermediates"][1])
    torch.testing.assert_close(cls, own["image_intermediates_prefix"][1])
    torch.testing.assert_close(everything, torch.cat([cls, patch], 1))
    torch.testing.assert_close(final[:, 0], own["image_features"])
    assert hooks_left(clip) == 0


def test_the_forward_ends_at_the_last_hook_point(clip, pixels):
    points = [HookPoint(f"{BLOCK}1", "all"), HookPoint(f"{BLOCK}0.mlp", "cls"), HookPoint(f"{BLOCK}1", "cls")]
    points.append(points[0])  # named twice
    with capture(clip, points) as whole:
        clip.encode_image(pixels)
    later = clip.visual.transformer.resblocks[2].register_forward_pre_hook(lambda *_: pytest.fail("too far"))
    try:
        seen = activations_at(clip, points, pixels)
    finally:
        later.remove()
    assert {*seen} == {*points}
    assert all(seen[point].equal(whole[point]) for point in points)
    assert hooks_left(clip) == 0


@pytest.mark.parametrize("points", [[], [HookPoint(f"{BLOCK}0", "cls"), HookPoint("transformer", "all")]])
def test_hook_points_that_images_never_reach(clip, pixels, points):
    with pytest.raises(ValueError, match=r"images never reach (any hook point|transformer:all):"):
        activations_at(clip, points, pixels)
    assert hooks_left(clip) == 0


def test_capture_inside_inference_mode(clip, pixels):
    point = HookPoint(f"{BLOCK}2", "cls")
    with torch.inference_mode(), capture(clip, [point]) as activations:
        clip.encode_image(pixels)
    with capture(clip, [point]) as again:
        clip.encode_image(pixels)
    torch.testing.assert_close(activations[point].clone(), again[point])


def test_captured_activations_survive_later_work_in_place(resnet_clip, pixels):
    point = HookPoint("visual.bn1", "all")  # a ReLU in place follows
    with capture(resnet_clip, [point]) as activations:
        resnet_clip.encode_image(pixels)
    expected = resnet_clip.visual.bn1(resnet_clip.visual.conv1(pixels))
    torch.testing.assert_close(activations[point], expected.flatten(2).transpose(1, 2))


def test_eot_is_the_token_that_is_pooled(clip):
    point = HookPoint("ln_final", "eot")
    with capture(clip, [point]) as activations:
        embeddings = clip.encode_text(["red", "a photo of a very small dog"])
    features = activations[point][:, 0] @ clip.model.text_projection
    torch.testing.assert_close(torch.nn.functional.normalize(features, dim=1), embeddings)


@pytest.mark.parametrize(
    ("module", "tokens", "shape"),
    [
        (f"{BLOCK}2", "cls", (1, 64)),
        (f"{BLOCK}1", "patch", (16, 64)),
        (f"{BLOCK}1", "all", (17, 64)),
        (f"{BLOCK}1.mlp", "cls", (1, 64)),
        (f"{BLOCK}1.mlp.gelu", "patch", (16, 256)),
        (f"{BLOCK}0.attn", "all", (17, 64)),
        ("visual.conv1", "all", (16, 64)),
        ("visual", "pooled", (1, 32)),
        ("transformer.resblocks.1", "eot", (1, 32)),
        ("transformer.resblocks.0", "all", (12, 32)),
    ],
)
def test_shapes_and_identity_of_the_unedited_splice(clip, pixels, module, tokens, shape):
    point = HookPoint(module, tokens)
    assert inspect_hook_point(clip, point) == HookShape(*shape)

    def forward():
        return clip.encode_text(["red", "dog"]) if point.is_text else clip.encode_image(pixels)

    expected = forward()
    with splice(clip, point, lambda x: 0.5 * x.relu()):
        assert torch.equal(forward(), expected)
    with splice(clip, point, lambda x: x, error_term=False):
        assert torch.equal(forward(), expected)
    with splice(clip, point, lambda x: x + torch.randn(shape), error_term=False):
        assert not torch.allclose(forward(), expected, atol=1e-3)
    assert hooks_left(clip) == 0


def test_shape_of_a_feature_map(resnet_clip, pixels):
    point = HookPoint("visual.layer2", "all")
    assert inspect_hook_point(resnet_clip, point) == HookShape(16, 32)
    expected = resnet_clip.encode_image(pixels)
    with splice(resnet_clip, point, torch.zeros_like):
        assert torch.equal(resnet_clip.encode_image(pixels), expected)


def test_edit_acts_on_the_untouched_error(clip, pixels):
    """With the error term, replacing x_hat by x_hat + delta moves the activation by delta."""
    point, delta = HookPoint(f"{BLOCK}1", "cls"), torch.randn(64)
    with splice(clip, point, lambda x: 0.1 * x, edited=lambda x: 0.1 * x + delta):
        edited = clip.encode_image(pixels)
    with splice(clip, point, lambda x: x + delta, error_term=False):
        torch.testing.assert_close(edited, clip.encode_image(pixels))


def test_gradients_flow_through_the_reconstruction_alone(clip, pixels):
    point = HookPoint(f"{BLOCK}1", "cls")
    double, scale = copy.deepcopy(clip).double(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with splice(double, point, lambda x: scale * x):
        y = double.encode_image(pixels)[:, 0].sum()
    (gradient,) = torch.autograd.grad(y, scale)

    def score(step):
        with splice(double, point, lambda x: 0.3 * x, edited=lambda x: (0.3 + step) * x):
            return double.encode_image(pixels)[:, 0].sum()

    torch.testing.assert_close(gradient, (score(1e-5) - score(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)


def test_nothing_is_left_behind_after_an_exception(clip, pixels):
    points = [HookPoint(f"{BLOCK}0", "cls"), HookPoint("transformer.resblocks.0", "eot")]
    with pytest.raises(KeyError), capture(clip, points), splice(clip, points[0], lambda x: {}[x]):
        clip.encode_image(pixels)
    with (
        pytest.raises(ValueError, match="no module"),
        capture(clip, [points[0], HookPoint("visual.no", "cls")]),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"shape \[3, 1, 64\], got \[3, 2, 64\]"),
        splice(clip, points[0], lambda x: torch.cat([x, x], 1), error_term=False),
    ):
        clip.encode_image(pixels)
    assert hooks_left(clip) == 0


@pytest.mark.parametrize(
    ("module", "tokens", "message"),
    [
        ("resblocks.1", "cls", r"no module 'resblocks\.1'.*visual\.transformer\.resblocks\.1"),
        (f"{BLOCK}7", "cls", r"close ones: visual\.transformer\.resblocks\."),
        ("visual", "cls", r"output is \[2, 32\]; use tokens=pooled"),
        (f"{BLOCK}1", "pooled", r"output is \[2, 17, 64\]; use tokens=cls or patch or all"),
        (f"{BLOCK}1", "eot", "text tower"),
        ("transformer.resblocks.1", "cls", "use tokens=eot or all"),
        ("visual.conv1", "cls", "use tokens=patch or all"),
        (f"{BLOCK}1", "clss", "tokens must be one of cls"),
        (f"{BLOCK}1.attn.out_proj", "cls", r"never calls .*out_proj.*resblocks\.1\.attn"),
        (BLOCK[:-1], "cls", r"a container.*use visual\.transformer$"),
        (f"{BLOCK}2", "patch", r"gradient is zero; use .*resblocks\.2:cls or .*resblocks\.1:patch"),
        (f"{BLOCK}2.mlp", "patch", r"use .*resblocks\.2\.mlp:cls or .*resblocks\.1\.mlp:patch"),
    ],
)
def test_unusable_hook_points_say_what_would_work(clip, module, tokens, message):
    with pytest.raises(ValueError, match=message):
        inspect_hook_point(clip, HookPoint(module, tokens))
    assert hooks_left(clip) == 0


def test_class_token_of_an_averaging_tower(averaged_clip):
    last = HookPoint(f"{BLOCK}2", "cls")
    with pytest.raises(ValueError, match=r"use .*resblocks\.2:patch or .*resblocks\.1:cls"):
        inspect_hook_point(averaged_clip, last)


def test_feature_map_has_no_class_token(resnet_clip):
    with pytest.raises(ValueError, match="use tokens=patch or all"):
        inspect_hook_point(resnet_clip, HookPoint("visual.layer3", "cls"))


def test_maps_of_both_layouts_and_what_is_no_map(resnet_clip):
    point = HookPoint("visual.layer3", "all")
    assert fitting_tokens(resnet_clip, point, torch.zeros(2, 16, 8, 8)) == ["patch", "all"]
    assert fitting_tokens(resnet_clip, point, torch.zeros(2, 8, 8, 16)) == ["patch", "all"]
    assert fitting_tokens(resnet_clip, point, torch.zeros(2, 16, 1, 1)) == ["pooled", "patch", "all"]
    heads = torch.zeros(2, 3, 101, 32)
    assert fitting_tokens(resnet_clip, point, heads) == []
    maps = torch.arange(32.0).view(1, 2, 4, 4)
    first, last = (select(resnet_clip, point, whole, []) for whole in (maps, maps.permute(0, 2, 3, 1)))
    assert first.take(maps).equal(last.take(maps.permute(0, 2, 3, 1)))
    assert last.put(maps.permute(0, 2, 3, 1), first.take(maps)).equal(maps.permute(0, 2, 3, 1))


def test_inspection_works_in_validation(clip):
    with torch.inference_mode():
        assert inspect_hook_point(clip, HookPoint(f"{BLOCK}0", "patch")) == HookShape(16, 64)
