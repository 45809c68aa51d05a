import json
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from lightning_sae.attribution.gradient import Remainder, attribute, gradient, remainder, token_sums
from lightning_sae.attribution.means import MeanAttribution, agreement
from lightning_sae.classifiers.scores import make_score
from lightning_sae.clip import HookPoint, capture_context, load_clip, make_tail, splice
from lightning_sae.types import SparseLatents

N, T, D_IN, D_SAE, D_EMBED, C = 6, 3, 10, 24, 5, 4
OUTPUTS = ["cosine", "logit", "margin", "probability"]
SCALE = 7.0


def score_gradient(tail, x, text, context=None, batch_size=64, **score):
    return gradient(tail, x, make_score(text, **score), context, batch_size)


class TinyTail(nn.Module):
    """LayerNorm of the mean token, projection, unit length: the end of a ViT."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D_IN, eps=1e-12)
        self.proj = nn.Linear(D_IN, D_EMBED, bias=False)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)
        self.double().requires_grad_(False)

    def forward(self, x, context):
        z = x.mean(1) if context is None else x.mean(1) + context.square().mean((1, 2))[:, None]
        return normalize(self.proj(self.norm(z)), dim=-1)


@pytest.fixture
def tail():
    torch.manual_seed(0)
    return TinyTail()


@pytest.fixture
def sae():
    """Weights, activations and their sparse latents, where some entries are zero and one row is empty."""
    torch.manual_seed(1)
    x = torch.randn(N * T, D_IN, dtype=torch.float64)
    W_dec, b_dec = torch.randn(D_SAE, D_IN).double(), torch.randn(D_IN).double()
    values, indices = (x @ W_dec.T).relu().topk(5)
    dense = torch.zeros(N * T, D_SAE).double().scatter(1, indices, values)
    dense[2] = 0
    return x, dense, W_dec, b_dec


def classes():
    return normalize(torch.randn(C, D_EMBED, generator=torch.Generator().manual_seed(3)).double(), dim=-1)


TARGETS = torch.tensor([0, 3, 1, 1, 2, 0])


def reference_score(embeddings, output):
    """[n], written out with softmax and odds, another way than the library's."""
    cosines = embeddings @ classes().T
    probabilities = (SCALE * cosines).softmax(1)[torch.arange(len(embeddings)), TARGETS]
    own = cosines[torch.arange(len(embeddings)), TARGETS]
    return {
        "cosine": own,
        "logit": SCALE * own,
        "margin": (probabilities / (1 - probabilities)).log(),
        "probability": probabilities,
    }[output]


@pytest.mark.parametrize("output", OUTPUTS)
def test_gradient_equals_finite_differences(tail, sae, output):
    x = sae[0].view(N, T, D_IN)
    context = torch.rand(N, 2, 2).double()
    g = score_gradient(tail, x, classes(), context, output=output, targets=TARGETS, logit_scale=SCALE)
    step = 1e-6
    for token, dim in [(0, 0), (1, 4), (2, 9)]:
        shift = torch.zeros_like(x)
        shift[:, token, dim] = step
        up, down = (reference_score(tail(x + s, context), output) for s in (shift, -shift))
        torch.testing.assert_close(g[:, token, dim], (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("output", OUTPUTS)
def test_attribution_equals_autograd_through_dense_latents(tail, sae, output):
    _, dense, W_dec, b_dec = sae
    a = dense.clone().requires_grad_()
    x_hat = (a @ W_dec + b_dec).view(N, T, D_IN)
    (slopes,) = torch.autograd.grad(reference_score(tail(x_hat, None), output).sum(), a)
    latents = SparseLatents.from_dense(dense)
    g = score_gradient(tail, x_hat.detach(), classes(), output=output, targets=TARGETS, logit_scale=SCALE)
    values = attribute(latents, W_dec, g.flatten(0, 1))
    torch.testing.assert_close(latents.with_values(values).to_dense(), dense * slopes)


def test_the_parts_sum_to_zero_where_length_does_not_matter(tail, sae):
    x, dense, W_dec, b_dec = sae
    g = score_gradient(tail, x.view(N, T, D_IN), classes(), targets=TARGETS).flatten(0, 1)
    latents = SparseLatents.from_dense(dense)
    rest = remainder(x, dense @ W_dec + b_dec, b_dec, g)
    per_token = latents.with_values(attribute(latents, W_dec, g)).to_dense().sum(1) + rest.bias + rest.error
    per_image = per_token.view(N, T).sum(1)
    assert g.abs().max() > 0.01
    torch.testing.assert_close(per_token, (x * g).sum(1))
    torch.testing.assert_close(per_image, torch.zeros(N).double(), rtol=0, atol=1e-9)


def test_text_may_be_one_prompt_one_an_image_or_all_classes(tail, sae):
    x = sae[0].view(N, T, D_IN)
    by_targets = score_gradient(tail, x, classes(), targets=TARGETS)
    torch.testing.assert_close(score_gradient(tail, x, classes()[TARGETS]), by_targets)
    single = score_gradient(tail, x, classes()[1])
    torch.testing.assert_close(single, score_gradient(tail, x, classes(), targets=torch.ones_like(TARGETS)))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_any_batch_size(tail, sae, output, batch_size):
    x, context = sae[0].view(N, T, D_IN), torch.rand(N, 2, 2).double()
    kwargs = {"output": output, "targets": TARGETS, "logit_scale": SCALE}
    whole = score_gradient(tail, x, classes(), context, **kwargs)
    batched = score_gradient(tail, x, classes(), context, batch_size=batch_size, **kwargs)
    torch.testing.assert_close(batched, whole)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_works_in_any_grad_mode_with_tensors_made_there(tail, sae, output, mode):
    x, context = sae[0].view(N, T, D_IN), torch.rand(N, 2, 2).double()
    kwargs = {"output": output, "logit_scale": SCALE}
    expected = score_gradient(tail, x, classes(), context, targets=TARGETS, **kwargs)
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        inside = [z.clone() for z in (x, classes(), context, TARGETS)]
        g = score_gradient(tail, *inside[:3], targets=inside[3], **kwargs)
        assert before == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    torch.testing.assert_close(g, expected)
    assert not g.requires_grad


def test_outputs_that_cannot_be_computed(tail, sae):
    x = sae[0].view(N, T, D_IN)
    with pytest.raises(ValueError, match="must be one of cosine, logit, margin, probability; got 'energy'"):
        score_gradient(tail, x, classes(), output="energy")
    with pytest.raises(ValueError, match="compares classes"):
        score_gradient(tail, x, classes()[0], output="margin")
    with pytest.raises(ValueError, match="two or more"):
        score_gradient(tail, x, classes()[:1], output="probability", targets=torch.zeros_like(TARGETS))


def test_no_images_and_no_latents(tail):
    assert score_gradient(tail, torch.zeros(0, 1, D_IN).double(), classes()[0]).shape == (0, 1, D_IN)
    none = SparseLatents.from_dense(torch.zeros(2, D_SAE))
    assert attribute(none, torch.randn(D_SAE, D_IN), torch.randn(2, D_IN)).shape == (0,)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random open_clip ViT of three blocks, with layer norms that do something."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    path = tmp_path_factory.mktemp("clip") / "tiny.json"
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="random weights"):
        loaded = load_clip(path)
    with torch.no_grad():
        loaded.visual.ln_post.weight.uniform_(0.5, 1.5)
        loaded.visual.ln_post.bias.normal_(0, 0.1)
    return loaded


LAST = HookPoint("visual.transformer.resblocks.2", "cls")


@pytest.mark.parametrize(
    "hook_point",
    [
        LAST,
        HookPoint("visual.transformer.resblocks.0", "cls"),
        HookPoint("visual.transformer.resblocks.1", "patch"),
        HookPoint("visual.transformer.resblocks.1.mlp", "all"),
        HookPoint("visual", "pooled"),
    ],
    ids=str,
)
def test_gradient_in_clip_equals_autograd_through_the_whole_model(clip, hook_point):
    torch.manual_seed(2)
    pixels, tail = torch.randn(N, 3, 32, 32), make_tail(clip, hook_point)
    text = normalize(torch.randn(C, 16), dim=-1)
    with torch.inference_mode():
        x, context = capture_context(clip, hook_point, tail, pixels)
        g = score_gradient(
            tail, x, text, context, output="margin", targets=TARGETS, logit_scale=SCALE, batch_size=4
        )
    delta = torch.zeros_like(x).requires_grad_()
    with splice(clip, hook_point, lambda z: z + delta, error_term=False):
        probabilities = (SCALE * clip.encode_image(pixels) @ text.T).softmax(1)
    own = probabilities[torch.arange(N), TARGETS]
    (expected,) = torch.autograd.grad((own / (1 - own)).log().sum(), delta)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(g, expected, rtol=1e-3, atol=1e-5)


def test_the_sum_rule_holds_for_any_output_at_the_last_block_of_clip(clip):
    torch.manual_seed(2)
    tail = make_tail(clip, LAST)
    x, _ = capture_context(clip, LAST, tail, torch.randn(N, 3, 32, 32))
    W_dec, b_dec = normalize(torch.randn(D_SAE, 32), dim=-1), 0.1 * torch.randn(32)
    values, indices = ((x[:, 0] - b_dec) @ W_dec.T).relu().topk(5)
    latents = SparseLatents.from_topk(values, indices, D_SAE)
    for output in OUTPUTS:
        text = normalize(torch.randn(C, 16), dim=-1)
        g = score_gradient(tail, x, text, output=output, targets=TARGETS, logit_scale=SCALE)[:, 0]
        attributions = latents.with_values(attribute(latents, W_dec, g)).to_dense()
        rest = remainder(x[:, 0], latents.to_dense() @ W_dec + b_dec, b_dec, g)
        mass = attributions.abs().sum(1) + rest.bias.abs() + rest.error.abs()
        assert ((attributions.sum(1) + rest.bias + rest.error).abs() < 1e-3 * mass).all()


def attributed(seed=5, n_images=40):
    """Random sparse attributions of images with T tokens: latents, values, classes, remainder."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(n_images * T, D_SAE, generator=generator)
    latents = SparseLatents.from_dense(dense * (dense > 0.7))
    values = torch.randn(len(latents.values), generator=generator)
    images = torch.randint(-1, C - 1, (n_images,), generator=generator)  # the last class has no image
    rest = torch.randn(2, n_images * T, generator=generator)
    return latents, values, images, rest


@pytest.mark.parametrize("step", [1, 7, 40])
def test_means_are_per_image_for_any_batch_split(step):
    latents, values, images, (bias, error) = attributed()
    metric = MeanAttribution(C, D_SAE)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        tokens = slice(start * T, (start + len(part)) * T)
        entries = slice(int(latents.offsets[tokens.start]), int(latents.offsets[tokens.stop]))
        metric.update(
            latents.slice(tokens.start, tokens.stop),
            values[entries],
            part,
            torch.arange(len(part)).repeat_interleave(T),
            Remainder(bias[tokens], error[tokens]),
        )
    result = metric.compute()
    dense = latents.with_values(values).to_dense().view(-1, T, D_SAE)
    for c in range(C):
        chosen = images == c
        assert result.counts[c] == chosen.sum()
        expected = {
            "mean": dense[chosen].sum(1).mean(0),
            "positive": dense[chosen].clamp(min=0).sum((1, 2)).mean(),
            "negative": dense[chosen].clamp(max=0).sum((1, 2)).mean(),
            "bias": bias.view(-1, T)[chosen].sum(1).mean(),
            "error": error.view(-1, T)[chosen].sum(1).mean(),
            "bias_mass": bias.abs().view(-1, T)[chosen].sum(1).mean(),
            "error_mass": error.abs().view(-1, T)[chosen].sum(1).mean(),
        }
        for name, value in expected.items():
            torch.testing.assert_close(getattr(result, name)[c], value, equal_nan=True)
    assert result.mean[C - 1].isnan().all()


def test_one_token_an_image_needs_no_rows():
    latents, values, images, _ = attributed()
    classes_of_tokens = images.repeat_interleave(T)
    plain, explicit = MeanAttribution(C, D_SAE), MeanAttribution(C, D_SAE)
    plain.update(latents, values, classes_of_tokens)
    explicit.update(latents, values, classes_of_tokens, torch.arange(len(classes_of_tokens)))
    torch.testing.assert_close(plain.compute().mean, explicit.compute().mean, equal_nan=True)


def test_a_reset_in_inference_mode_does_not_spoil_a_later_pass():
    latents, values, images, _ = attributed()
    metric = MeanAttribution(C, D_SAE)
    with torch.inference_mode():
        metric.update(latents, values, images, torch.arange(len(images)).repeat_interleave(T))
        first = metric.compute()
        metric.reset()
    metric.update(latents, values, images, torch.arange(len(images)).repeat_interleave(T))
    torch.testing.assert_close(metric.compute().mean, first.mean, equal_nan=True)


def test_shares_are_of_the_mass_of_all_images():
    latents, values, images, (bias, error) = attributed()
    metric = MeanAttribution(C, D_SAE)
    rows = torch.arange(len(images)).repeat_interleave(T)
    metric.update(latents, values, images, rows, Remainder(bias, error))
    pooled = metric.compute().pooled()
    known = images >= 0
    token, entry = known[rows], known[rows][latents.rows()]
    total = values[entry].abs().sum() + bias[token].abs().sum() + error[token].abs().sum()
    assert pooled.counts.tolist() == [int(known.sum())]
    torch.testing.assert_close(pooled.error_share[0], error[token].abs().sum() / total)
    torch.testing.assert_close(pooled.bias_share[0], bias[token].abs().sum() / total)
    torch.testing.assert_close(pooled.positive[0], values[entry].clamp(min=0).sum() / known.sum())
    dense = latents.with_values(values).to_dense().view(-1, T, D_SAE)
    torch.testing.assert_close(pooled.mean[0], dense[known].sum((0, 1)) / known.sum())


def test_token_sums_of_one_latent_and_of_all():
    latents, values, _, _ = attributed()
    attributions = latents.with_values(values)
    torch.testing.assert_close(token_sums(attributions), attributions.to_dense().sum(1))
    torch.testing.assert_close(token_sums(attributions, 7), attributions.to_dense()[:, 7])


def test_agreement_is_pearsons_correlation():
    first, second = torch.randn(2, C, D_SAE, generator=torch.Generator().manual_seed(8)).double()
    expected = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(first, second, strict=True)]
    torch.testing.assert_close(agreement(first, second), torch.stack(expected))
    first[1, 3] = torch.nan
    assert agreement(first, second).isnan().tolist() == [False, True, False, False]
