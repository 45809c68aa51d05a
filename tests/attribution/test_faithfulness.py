import itertools
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.stats import spearmanr
from torch.nn.functional import normalize

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.faithfulness import (
    Evidence,
    curves,
    faithfulness_table,
    measure,
    rank_correlation,
    ranking,
)
from lightning_sae.clip import HookPoint, capture_context, load_clip, make_tail, splice
from lightning_sae.metrics import mean_in_units
from lightning_sae.sae import TopK
from lightning_sae.types import SparseLatents
from lightning_sae.world import config_path, weights_path

N, T, D_IN, D_SAE = 5, 3, 6, 20


def explained_with(dense, W_dec, rest, tail, tokens, context=None):
    """Images whose latents are `dense [n * t, d_sae]` and whose error term and bias are `rest`."""
    x_hat = dense @ W_dec
    shape = len(dense) // tokens, tokens, -1
    latents = SparseLatents.from_dense(dense)
    return Explained(tail, W_dec, (x_hat + rest).view(shape), x_hat.view(shape), latents, context)


@pytest.fixture
def images():
    """Five images of three tokens with up to 16 active latents each; a tail that is far from linear."""
    torch.manual_seed(0)
    dense = torch.rand(N * T, D_SAE).double() * (torch.rand(N * T, D_SAE) < 0.2)
    dense[:T] = 0  # the first image has no active latent
    W_dec, rest = torch.randn(D_SAE, D_IN).double(), torch.randn(N * T, D_IN).double()
    context = torch.randn(N, D_IN).double()
    mix = torch.randn(D_IN, D_IN).double()

    def tail(x, context):
        return normalize((x.cos().sum(1) + context) @ mix, dim=-1)

    return explained_with(dense, W_dec, rest, tail, T, context)


TEXTS = normalize(torch.randn(N, D_IN, generator=torch.Generator().manual_seed(1)).double(), dim=-1)


def score(embeddings, rows):
    """The cosine of every image with a text of its own."""
    return (embeddings * TEXTS[rows]).sum(1)


def some_values(explained, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(explained.latents.values), generator=generator).double()


def brute_force(explained, values, score, steps, embed):
    """Deletion and insertion by plain loops: `embed(i, x [t, d_in])` runs one edited image."""
    latents, (n, t, _) = explained.latents, explained.x.shape
    rows = latents.rows().tolist()
    expected = torch.empty(2, n, steps + 1, dtype=explained.x.dtype)
    for i in range(n):
        active = [e for e, a in enumerate(latents.values) if a > 0 and rows[e] // t == i]
        active.sort(key=lambda e: (-float(values[e]), rows[e], int(latents.indices[e])))
        for s in range(steps + 1):
            first = math.floor(s * len(active) / steps)
            for way, gone in enumerate((active[:first], active[first:])):
                x = explained.x[i].clone()
                for e in gone:
                    x[rows[e] % t] -= latents.values[e] * explained.W_dec[latents.indices[e]]
                expected[way, i, s] = score(embed(i, x), torch.tensor([i]))[0]
    return expected


@pytest.mark.parametrize("steps", [1, 4, 7, 30])
def test_curves_equal_plain_loops(images, steps):
    values = some_values(images)
    found = curves(images, values, score, steps)
    expected = brute_force(
        images, values, score, steps, lambda i, x: images.tail(x[None], images.context[i : i + 1])
    )
    torch.testing.assert_close(torch.stack(found[1:]), expected)


@pytest.mark.parametrize(("module", "tokens"), [("3", "cls"), ("1", "patch"), ("1", "all")])
@torch.no_grad()
def test_curves_equal_the_full_model_with_the_edit_spliced_in(module, tokens):
    torch.manual_seed(0)
    clip = load_clip(config_path(), weights_path("biased"))
    hook = HookPoint(f"visual.transformer.resblocks.{module}", tokens)
    tail = make_tail(clip, hook)
    pixels = torch.randn(2, 3, *[clip.model.visual.image_size[0]] * 2)
    x, context = capture_context(clip, hook, tail, pixels)
    sae = TopK(x.shape[-1], d_sae=32, k=4)
    x_hat, latents = sae(x.flatten(0, 1))
    explained = Explained(tail, sae.W_dec, x, x_hat.view_as(x), latents, context)
    texts = clip.encode_text(["a red star", "a moon"])

    def embed(i, edited):
        with splice(clip, hook, lambda _: edited[None], error_term=False):
            return normalize(clip.encode_image(pixels[i : i + 1]), dim=-1)

    def cosine(embeddings, rows):
        return (embeddings * texts[rows]).sum(1)

    values = torch.randn(len(latents.values))
    found = curves(explained, values, cosine, steps=3)
    expected = brute_force(explained, values, cosine, 3, embed)
    torch.testing.assert_close(torch.stack(found[1:]), expected, rtol=1e-4, atol=1e-5)


def test_the_ends_are_the_image_as_it_is_and_its_error_term_with_the_bias(images):
    found = curves(images, some_values(images), score, steps=5)
    rest = images.x - images.x_hat  # `explained_with` has the bias in it
    full, empty = (score(images.tail(x, images.context), slice(0, N)) for x in (images.x, rest))
    for curve, ends in ((found.deletion, (full, empty)), (found.insertion, (empty, full))):
        torch.testing.assert_close(curve[:, 0], ends[0])
        torch.testing.assert_close(curve[:, -1], ends[1])
    torch.testing.assert_close(found.deletion[0], full[0].expand(6))  # no active latent: nothing changes


def test_fractions_are_of_the_images_own_active_latents(images):
    active = (images.latents.to_dense() > 0).view(N, -1).sum(1)
    fractions = curves(images, some_values(images), score, steps=4).fractions
    for i, m in enumerate(active.tolist()):
        assert fractions[i].tolist() == pytest.approx([math.floor(s * m / 4) / max(m, 1) for s in range(5)])


@pytest.mark.parametrize("batch_size", [1, 13, 40])
def test_any_batch_size(images, batch_size):
    values = some_values(images)
    whole, split = (curves(images, values, score, 4, size) for size in (1000, batch_size))
    for first, second in zip(whole, split, strict=True):
        torch.testing.assert_close(first, second)


def test_any_split_of_the_images(images):
    values, t = some_values(images), T
    whole = curves(images, values, score, 4)
    start = int(images.latents.offsets[2 * t])
    latents = images.latents.slice(2 * t, N * t)
    part = images._replace(
        x=images.x[2:], x_hat=images.x_hat[2:], latents=latents, context=images.context[2:]
    )
    rest = curves(part, values[start:], lambda e, rows: score(e, rows + 2), 4)
    for first, second in zip(whole, rest, strict=True):
        torch.testing.assert_close(first[2:], second)


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_works_in_any_grad_mode(images, mode):
    images.W_dec.requires_grad_()
    with mode():
        found = curves(images, some_values(images), score, 3)
    assert not any(part.requires_grad for part in found)


def test_ties_go_by_token_then_latent_whatever_the_order_of_storage():
    values = torch.tensor([[5.0, 2.0, 0.0], [1.0, 4.0, 3.0]])
    indices = torch.tensor([[7, 3, 1], [2, 9, 0]])
    latents = SparseLatents.from_topk(values, indices, d_sae=10)
    same = torch.zeros(6)
    assert latents.indices[ranking(latents, same, tokens=2)].tolist() == [3, 7, 0, 2, 9]
    assert ranking(latents, same, tokens=1).tolist() == [1, 0, 5, 3, 4]
    by_latent = torch.tensor([0.0, 0.0, 9.0, 0.0, 1.0, 0.0])  # the 9 is that of an inactive latent
    assert latents.indices[ranking(latents, by_latent, tokens=2)].tolist() == [9, 3, 7, 0, 2]


def linear_image(effects, rest=0.5):
    """One image whose score is `rest + sum of the effects of the latents that are there`."""
    effects = torch.tensor([effects], dtype=torch.float64)
    W_dec = torch.eye(effects.shape[1], dtype=torch.float64)
    weights = effects.sign()[0]
    explained = explained_with(effects.abs(), W_dec, torch.zeros(1), lambda x, context: x[:, 0], tokens=1)
    return explained, lambda embeddings, rows: embeddings @ weights + rest


def evidence_of(explained, score, *values, steps=6):
    methods = {str(i): lambda explained, score, v=v: v for i, v in enumerate(values)}
    return measure(explained, score, methods, truth="0", steps=steps)


def areas(evidence):
    """Deletion and insertion, `[M]` each."""
    return [mean_in_units(area, evidence.span) for area in evidence.areas()]


def test_on_a_linear_tail_the_true_effects_give_the_best_areas():
    effects = [1.0, -0.5, 3.0, 0.25, -1.5, 2.0]
    explained, linear = linear_image(effects)
    orders = [torch.tensor(o, dtype=torch.float64) for o in itertools.permutations(range(6))]
    deletion, insertion = areas(evidence_of(explained, linear, torch.tensor(effects), *orders))
    torch.testing.assert_close(deletion[0], deletion.min())
    torch.testing.assert_close(insertion[0], insertion.max())
    # by hand: sorted effects 3, 2, 1, 0.25, -0.5, -1.5 sum to 4.25; trapezoids between what is left
    left = np.array([4.25, 1.25, -0.75, -1.75, -2.0, -1.5, 0.0]) / 4.25
    put_back = np.array([0.0, 3.0, 5.0, 6.0, 6.25, 5.75, 4.25]) / 4.25
    assert float(deletion[0]) == pytest.approx(trapezoid(left, dx=1 / 6))
    assert float(insertion[0]) == pytest.approx(trapezoid(put_back, dx=1 / 6))
    # an order and its reverse are each other's complement; over all orders the mean is one half
    assert float(deletion[1:].mean()) == pytest.approx(0.5)
    assert float(insertion[1:].mean()) == pytest.approx(0.5)


def test_more_steps_than_latents_change_nothing():
    explained, linear = linear_image([1.0, -0.5, 3.0])
    values = torch.tensor([0.3, 0.2, 0.9])
    expected = evidence_of(explained, linear, values, steps=3).areas()
    for steps in (4, 7, 100):
        for found, area in zip(
            evidence_of(explained, linear, values, steps=steps).areas(), expected, strict=True
        ):
            torch.testing.assert_close(found, area)


def test_areas_do_not_depend_on_offset_and_unit_of_the_score(images):
    values = some_values(images)
    plain = evidence_of(images, lambda e, rows: -score(e, rows), values)
    scaled = evidence_of(images, lambda e, rows: -7 * score(e, rows) - 3, values)
    assert plain.span.mean() > 0
    torch.testing.assert_close(areas(scaled), areas(plain))


def test_latents_that_lower_the_score_have_no_areas():
    explained, linear = linear_image([-1.0, -2.0])
    evidence = evidence_of(explained, linear, torch.tensor([1.0, 2.0]))
    assert all(area.isnan().all() for area in areas(evidence))
    table = faithfulness_table(evidence, ["0"], reference="0")
    assert table[["deletion", "deletion_low", "insertion_high"]].isna().all(axis=None)


def test_rank_correlation_is_spearmans_over_active_latents(images):
    first, second = some_values(images), some_values(images, seed=1)
    second = second.round()  # ties
    found = rank_correlation(images.latents, first, second, T)
    image = images.latents.rows() // T
    assert found[0].isnan()
    for i in range(1, N):
        expected = spearmanr(first[image == i], second[image == i]).statistic
        assert float(found[i]) == pytest.approx(expected)
    torch.testing.assert_close(
        rank_correlation(images.latents, first, -first, T)[1:], -torch.ones(N - 1).double()
    )


def test_inactive_latents_of_a_topk_are_not_correlated():
    latents = SparseLatents.from_topk(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[4, 1, 0, 2]]), 5)
    values = torch.tensor([1.0, 2.0, 3.0, -100.0])
    assert rank_correlation(latents, values, torch.tensor([1.0, 2.0, 3.0, 100.0]), 1).tolist() == [1.0]
    assert rank_correlation(latents, values, torch.tensor([5.0, 5.0, 5.0, 1.0]), 1).isnan().all()


def test_the_table_pairs_images():
    """A method that is better by the same share on every image: a difference without any width."""
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(1, 0, 5).double()
    bend = line * (1 - line)
    spread, noise = torch.randn(2, 50, 1, 1, generator=generator).double()
    first = spread.exp() * (line + noise * bend)
    deletion = torch.cat([first, first - 0.1 * spread.exp() * bend], 1)
    evidence = Evidence(line.flip(0).expand(50, 5), deletion, deletion.flip(-1), torch.ones(50, 2).double())
    table = faithfulness_table(evidence, ["slow", "fast"], reference="slow").set_index("method")
    difference = -0.1 * trapezoid(bend, dx=0.25)
    columns = ["deletion_difference", "deletion_difference_low", "deletion_difference_high"]
    assert table.loc["fast", columns].tolist() == pytest.approx([difference] * 3)
    assert table.loc["slow", columns].tolist() == [0, 0, 0]
    # the insertion curve here is the deletion curve backwards: it has the same area
    assert table.loc["fast", "insertion_difference"] == pytest.approx(difference)
    expected = 0.5 + float((spread.exp() * noise).sum() / spread.exp().sum()) * trapezoid(bend, dx=0.25)
    assert table.loc["slow", "deletion"] == pytest.approx(expected)
    assert table.loc["slow", "deletion_high"] - table.loc["slow", "deletion_low"] > 0.01
    assert table["images"].tolist() == [50, 50]


def test_what_cannot_be_measured(images):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        curves(images, some_values(images), score, steps=0)
    with pytest.raises(ValueError, match="truth must be one of the methods a; got 'b'"):
        measure(images, score, {"a": lambda e, s: e.latents.values}, truth="b")
    with pytest.raises(ValueError, match="reference must be one of the methods 0; got 'b'"):
        faithfulness_table(evidence_of(images, score, some_values(images)), ["0"], reference="b")
