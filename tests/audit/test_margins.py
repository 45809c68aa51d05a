"""Margins without latents, against images that are edited by hand."""

import pytest
import torch

from lightning_sae.attribution.ablation import Removal
from lightning_sae.audit.verdict import margins
from lightning_sae.audit.verdict.margins import margin_of, margins_without

from .imagined import linear_world

N, D_SAE, D_IN = 14, 6, 4


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def world():
    """Sparse latents, a decoder, what the autoencoder does not explain, and a probe of three classes."""
    a = numbers(N, D_SAE).relu()
    a[0] = 0.0  # nothing is active
    return (
        a,
        numbers(D_SAE, D_IN, seed=1),
        numbers(N, D_IN, seed=2),
        numbers(3, D_IN, seed=3),
        numbers(3, seed=4),
    )


def by_hand(world, c, latents):
    a, W_dec, rest, weight, bias = world
    kept = a.clone()
    kept[:, list(latents)] = 0.0
    logits = (kept @ W_dec + rest) @ weight.T + bias
    others = [k for k in range(len(weight)) if k != c]
    return logits[:, c] - logits[:, others].max(1).values


@pytest.mark.parametrize("at_once", [64, 2])
def test_removal_is_an_edit_of_the_image(monkeypatch, world, at_once):
    a, W_dec, rest, weight, bias = world
    images, scores = linear_world(a, weight, bias, W_dec, rest)
    monkeypatch.setattr(margins, "AT_ONCE", at_once)
    removals = [Removal(0, (1,)), Removal(2, (1, 4)), Removal(1, ()), Removal(1, tuple(range(D_SAE)))]
    removals.append(Removal(0, (1,)))
    found = margins_without(images, scores, removals)
    assert len(found) == 5
    for one, (c, latents) in zip(found, removals, strict=True):
        torch.testing.assert_close(one.before, by_hand(world, c, ()))
        torch.testing.assert_close(one.after, by_hand(world, c, latents))
    assert torch.equal(found[2].after, found[2].before)
    assert torch.equal(found[3].after[:1], found[3].before[:1])


def test_of_two_classes_the_margin_is_the_difference(world):
    a, W_dec, rest, weight, bias = world
    images, scores = linear_world(a, weight[:2], bias[:2], W_dec, rest)
    first, second = margins_without(images, scores, [Removal(0, (1,)), Removal(1, (1,))])
    torch.testing.assert_close(first.before, -second.before)
    torch.testing.assert_close(first.after, -second.after)


def test_nothing_to_remove(world):
    images, scores = linear_world(world[0], numbers(3, D_SAE))
    assert margins_without(images, scores, []) == []


def test_a_margin_above_zero_is_a_prediction():
    logits = numbers(50, 5)
    for c in range(5):
        assert torch.equal(margin_of(logits, c) > 0, logits.argmax(1) == c)
    each = logits.argmax(1)
    top = logits.topk(2).values
    torch.testing.assert_close(margin_of(logits, each), top[:, 0] - top[:, 1])
