from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.gradient import gradient, remainder
from lightning_sae.attribution.methods import (
    Ablation,
    ActGrad,
    Activation,
    ActLogitLens,
    IntegratedGradients,
    LogitLens,
    Random,
)
from lightning_sae.classifiers.scores import make_score
from lightning_sae.clip import splice

SCALE, TARGETS = 8.0, torch.tensor([0, 3, 1, 1, 2])
OUTPUTS = ["cosine", "logit", "margin", "probability", "probe"]
METHODS = [ActGrad(), IntegratedGradients(steps=3), Ablation(), LogitLens(), ActLogitLens(), Activation()]


@pytest.fixture(params=OUTPUTS)
def score(request, texts, probe):
    if request.param == "probe":
        return make_score(probe, "logit", TARGETS)
    return make_score(texts, request.param, TARGETS, SCALE)


@pytest.fixture
def margin(texts):
    return make_score(texts, "margin", TARGETS, SCALE)


def with_latents(explained, factors):
    """Scores of the images with each entry of the latents multiplied, `[nnz] -> x`; the rest stays."""
    latents = explained.latents
    change = latents.with_values(latents.values * (factors - 1)).to_dense() @ explained.W_dec
    return explained.x + change.view_as(explained.x)


def run(explained, score, x):
    return score(explained.tail(x, explained.context), slice(0, len(x)))


def test_act_grad_equals_finite_differences(explained, score):
    values, step = ActGrad()(explained, score), 1e-6
    image = explained.image_rows()
    for entry in range(0, len(values), max(1, len(values) // 7)):
        factors = torch.ones(2, len(values)).double()
        factors[:, entry] += torch.tensor([step, -step])
        up, down = (run(explained, score, with_latents(explained, f)) for f in factors)
        expected = ((up - down) / (2 * step))[image[entry]]
        torch.testing.assert_close(values[entry], expected, rtol=1e-5, atol=1e-8)
        assert ((up - down)[torch.arange(len(up)) != image[entry]] == 0).all()


def test_the_parts_sum_to_x_times_gradient_and_to_zero_at_the_end(case, score):
    explained = case.explained
    g = gradient(explained.tail, explained.x, score, explained.context, batch_size=2).flatten(0, 1)
    x, x_hat = (part.flatten(0, 1) for part in (explained.x, explained.x_hat))
    rest = remainder(x, x_hat, case.b_dec, g)
    per_token = rest.bias + rest.error
    per_token = per_token.index_add(0, explained.latents.rows(), ActGrad()(explained, score))
    torch.testing.assert_close(per_token, (x * g).sum(1))
    if explained.x.shape[1] == 1 and explained.context is None:  # the score ignores the length of x
        mass = (x * g).abs().sum(1)
        assert (per_token.abs() < 1e-4 * mass).all()  # up to the layer norm's eps


def test_integrated_gradients_are_complete(explained, score):
    values = IntegratedGradients(steps=200)(explained, score)
    sums = torch.zeros(len(explained.x)).double().index_add(0, explained.image_rows(), values)
    empty = with_latents(explained, torch.zeros(len(values)).double())
    change = run(explained, score, explained.x) - run(explained, score, empty)
    assert change.abs().max() > 1e-3
    torch.testing.assert_close(sums, change, rtol=2e-3, atol=1e-4 * float(change.abs().max()))


def test_integrated_gradients_are_the_path_integral(explained, margin):
    """By autograd through the scaled latents, with Gauss-Legendre points instead of midpoints."""
    values = IntegratedGradients(steps=64)(explained, margin)
    expected = torch.zeros_like(values)
    for alpha, weight in [(0.1127016654, 5 / 18), (0.5, 8 / 18), (0.8872983346, 5 / 18)]:
        factors = torch.full_like(values, alpha).requires_grad_()
        y = run(explained, margin, with_latents(explained, factors))
        expected += weight * torch.autograd.grad(y.sum(), factors)[0]
    torch.testing.assert_close(values, expected, rtol=0.05, atol=0.02 * float(values.abs().max()))


def test_ablation_is_the_whole_model_without_the_latent(case, score):
    explained, latents = case.explained, case.explained.latents
    found = Ablation(chunk=4)(explained, score)
    whole = score(case.clip.encode_image(case.pixels), slice(0, 5))
    rows, image = latents.rows(), explained.image_rows()
    for entry in range(0, len(found), max(1, len(found) // 7)):
        removed = torch.zeros_like(explained.x)
        removed.flatten(0, 1)[rows[entry]] = latents.values[entry] * explained.W_dec[latents.indices[entry]]
        with splice(case.clip, case.hook, lambda x, gone=removed: x - gone, error_term=False):
            without = score(case.clip.encode_image(case.pixels), slice(0, 5))
        torch.testing.assert_close(found[entry], (whole - without)[image[entry]])


def test_the_logit_lens_skips_the_blocks_between(case, texts):
    explained = case.explained
    rows = explained.W_dec[explained.latents.indices]
    if case.hook.module != "visual":
        visual = case.clip.visual
        rows, nothing = (visual.ln_post(z) @ visual.proj for z in (rows, torch.zeros_like(rows)))
    else:
        nothing = torch.zeros_like(rows)
    prompts = texts[TARGETS][explained.image_rows()]
    expected = ((normalize(rows, dim=1) - normalize(nothing, dim=1)) * prompts).sum(1)
    cosine = make_score(texts, "cosine", TARGETS)
    torch.testing.assert_close(LogitLens(chunk=3)(explained, cosine), expected)
    weighted = ActLogitLens()(explained, cosine)
    torch.testing.assert_close(weighted, expected * explained.latents.values)


def test_activation_and_random(explained, margin):
    assert Activation()(explained, margin) is explained.latents.values
    noise = Random(seed=1)(explained, margin)
    assert not torch.equal(noise, Random(seed=2)(explained, margin))
    assert torch.equal(noise, Random(seed=1)(explained, margin))
    assert len(noise.unique()) == len(noise) == len(explained.latents.values)
    latents = explained.latents
    order = (latents.rows() * latents.d_sae - latents.indices).argsort()  # each row the other way round
    turned = replace(latents, values=latents.values[order], indices=latents.indices[order])
    assert torch.equal(Random(seed=1)(explained._replace(latents=turned), margin), noise[order])


@pytest.mark.parametrize("method", [*METHODS, Random()], ids=lambda m: m.name)
def test_any_batch_split(explained, texts, method):
    score = make_score(texts, "margin", TARGETS, SCALE)
    whole, parts = method(explained, score), []
    for start, stop in [(0, 1), (1, 2), (2, 5)]:
        part = make_score(texts, "margin", TARGETS[start:stop], SCALE)
        parts.append(method(explained.images(start, stop), part))
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (ActGrad(batch_size=2), ActGrad()),
        (IntegratedGradients(3, batch_size=2), IntegratedGradients(3)),
        (Ablation(chunk=1), Ablation()),
    ],
)
def test_chunks_change_nothing(explained, margin, small, large):
    torch.testing.assert_close(small(explained, margin), large(explained, margin))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_works_in_any_grad_mode_with_tensors_made_there(explained, texts, method, mode):
    expected = method(explained, make_score(texts, "margin", TARGETS, SCALE))
    with mode():
        inside = explained._replace(x=explained.x.clone(), W_dec=explained.W_dec.clone().requires_grad_())
        values = method(inside, make_score(texts.clone(), "margin", TARGETS.clone(), SCALE))
    torch.testing.assert_close(values, expected)
    assert not values.requires_grad


@pytest.mark.parametrize("method", [*METHODS, Random()], ids=lambda m: m.name)
def test_no_images(last, margin, method):
    assert method(last.images(0, 0), margin).shape == (0,)


def test_what_cannot_be(explained):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        IntegratedGradients(steps=0)
