"""Removing shares of latents: the numbers of a page against the tail of CLIP itself."""

import numpy as np
import pytest
import torch

from lightning_sae.attribution.ablation import remove_shares
from lightning_sae.attribution.closed_form import LastLayer
from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.classifier import Classifier
from lightning_sae.clip import HookPoint, load_clip, make_tail
from lightning_sae.explorer.removal import (
    Removable,
    exact_removals,
    likely_classes,
    quantised,
    single_removals,
    size_for,
)
from lightning_sae.types import SparseLatents
from lightning_sae.world import config_path, weights_path

N, K, D_SAE = 5, 4, 40


def explained(hook):
    clip = load_clip(config_path(), weights_path("biased"))
    generator = torch.Generator().manual_seed(0)
    tail = make_tail(clip, HookPoint(*hook))
    d_in = 128 if hook[1] == "cls" else len(clip.encode_text(["a"])[0])
    x = torch.randn(N, 1, d_in, generator=generator)
    W_dec = torch.randn(D_SAE, d_in, generator=generator)
    indices = torch.stack([torch.randperm(D_SAE, generator=generator)[:K] for _ in range(N)])
    values = torch.rand(N, K, generator=generator) * 0.5
    latents = SparseLatents(values.flatten(), indices.flatten(), torch.arange(0, N * K + 1, K), D_SAE)
    return Explained(tail, W_dec, x, x, latents), Removable(indices, values)


def classifier(d_embed, n=7, bias=False):
    generator = torch.Generator().manual_seed(1)
    weight = 20 * torch.nn.functional.normalize(torch.randn(n, d_embed, generator=generator))
    b = torch.randn(n, generator=generator) if bias else torch.zeros(n)
    return Classifier(weight, b, [str(c) for c in range(n)])


def matrix(triangle, n):
    full = torch.zeros(n, n)
    full[tuple(torch.triu_indices(n, n))] = triangle
    return full + full.triu(1).T


def logits(found, i, shares):
    """By the formula of the docstring, as the page computes it."""
    m = len(shares)
    c = torch.cat([torch.ones(1), -shares])
    v = torch.cat([c / (c @ matrix(found.inputs[i], m + 1) @ c).sqrt(), torch.ones(1)])
    return found.logits[i] @ v / (v @ matrix(found.outputs[i], m + 2) @ v).sqrt() + found.bias[i]


@pytest.mark.parametrize("hook", [("visual.transformer.resblocks.3", "cls"), ("visual", "pooled")])
@pytest.mark.parametrize("bias", [False, True])
def test_any_shares_of_any_latents_are_exact(hook, bias):
    images, removable = explained(hook)
    form = LastLayer.of(images.tail, images.W_dec)
    d_embed = images.tail(images.x).shape[1]
    own = classifier(d_embed, bias=bias)
    found = exact_removals(form, images.x[:, 0], removable, own, 7, torch.full((N,), -1))
    generator = torch.Generator().manual_seed(2)
    for i in range(N):
        shares = torch.rand(K, generator=generator)
        edited = remove_shares(images.images(i, i + 1), removable.latents[i].tolist(), shares.tolist())
        expected = own.logits(edited)[0, found.classes[i]]
        assert logits(found, i, shares).tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_single_removals_are_those_of_the_exact_form():
    images, removable = explained(("visual.transformer.resblocks.3", "cls"))
    form = LastLayer.of(images.tail, images.W_dec)
    own, none = classifier(images.tail(images.x).shape[1]), torch.full((N,), -1)
    exact = exact_removals(form, images.x[:, 0], removable, own, 7, none)
    each = [images.images(i, i + 1) for i in range(N)]
    measured = single_removals(each, removable, own, 7, none)
    assert measured.classes.tolist() == exact.classes.tolist()
    for i in range(N):
        assert logits(exact, i, torch.zeros(K)).tolist() == pytest.approx(
            measured.as_it_is[i].tolist(), abs=1e-4
        )
        for j in range(K):
            assert logits(exact, i, torch.eye(K)[j]).tolist() == pytest.approx(
                measured.without[i, j].tolist(), abs=1e-4
            )


def test_an_absent_latent_changes_nothing():
    images, removable = explained(("visual.transformer.resblocks.3", "cls"))
    removable.latents[0, -1], removable.activations[0, -1] = -1, 0.0
    form = LastLayer.of(images.tail, images.W_dec)
    own = classifier(images.tail(images.x).shape[1])
    found = exact_removals(form, images.x[:, 0], removable, own, 7, torch.full((N,), -1))
    last = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert logits(found, 0, last).tolist() == pytest.approx(logits(found, 0, 0 * last).tolist(), abs=1e-5)


def test_the_classes_of_an_image_are_those_that_win_in_some_case_and_its_own():
    generator = torch.Generator().manual_seed(3)
    cases = torch.randn(6, 5, 30, generator=generator)
    keep = torch.tensor([4, -1, 29, 0, -1, 7])
    chosen = likely_classes(cases.clone(), 8, keep)
    for i in range(6):
        winners = set(cases[i].argmax(1).tolist()) | ({int(keep[i])} if keep[i] >= 0 else set())
        assert winners <= set(chosen[i].tolist())
        assert chosen[i].tolist() == sorted(set(chosen[i].tolist()))


def test_quantised_numbers_are_within_half_a_unit():
    numbers = torch.randn(4, 3, 5, dtype=torch.float64) * torch.tensor([1e-4, 1.0, 1e4, 0.0])[:, None, None]
    whole, unit = quantised(numbers)
    back = whole.astype(float) * unit[:, None, None].astype(float)
    largest = numbers.abs().amax((1, 2)).numpy()
    assert (np.abs(back - numbers.numpy()).max((1, 2)) <= largest / 65534 * 1.01 + 1e-12).all()


def test_the_numbers_of_many_images_have_room():
    for images, active, n_classes in ((200, 64, 1000), (2000, 16, 24), (14_000, 32, 1000), (9_000, 128, 10)):
        m, c = size_for(images, active, n_classes)
        assert 8 <= m <= active
        assert min(8, n_classes) <= c <= n_classes
        size = 2 * (m + 1) * (m + 2) + (m + 2) * (m + 3) + 2 * c * (m + 3)
        assert size * images < 7_000_000
