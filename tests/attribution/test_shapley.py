"""Shapley values by their definition, and what integrated gradients and ablation have to do with them."""

from itertools import permutations

import pytest
import torch

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.methods import Ablation, ActGrad, IntegratedGradients
from lightning_sae.attribution.shapley import Shapley
from lightning_sae.classifiers.scores import make_score
from lightning_sae.types import SparseLatents


def game(dense, W_dec, tail):
    """Images of one token without bias or error term."""
    latents, x = SparseLatents.from_dense(dense), (dense @ W_dec)[:, None]
    return Explained(tail, W_dec, x, x, latents)


def by_definition(explained, score, image):
    """The mean over all orders of what a latent adds to those before it."""
    values = explained.latents.to_dense()[image]
    active = values.nonzero().flatten().tolist()
    found, orders = torch.zeros_like(values), list(permutations(active))
    for order in orders:
        there = torch.zeros_like(values)
        before = score(explained.tail((there @ explained.W_dec)[None, None], None), torch.tensor([image]))[0]
        for j in order:
            there[j] = values[j]
            x = (there @ explained.W_dec)[None, None]
            now = score(explained.tail(x, None), torch.tensor([image]))[0]
            found[j] += (now - before) / len(orders)
            before = now
    return found[active]


def test_the_mean_over_all_orders():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(3, 6, generator=generator).double() + 0.5
    dense[0, 2:], dense[1, 1:5], dense[2, 4:] = 0, 0, 0  # two, two and four active latents
    W_dec = torch.randn(6, 5, generator=generator).double()
    explained = game(dense, W_dec, lambda x, context: torch.nn.functional.normalize(x[:, 0].cos(), dim=1))
    texts = torch.nn.functional.normalize(torch.randn(3, 5, generator=generator).double(), dim=1)
    score = make_score(texts, "margin", torch.arange(3), 8.0)
    image = explained.image_rows()
    once, often = Shapley(orders=1)(explained, score), Shapley(orders=800, batch_size=7)(explained, score)
    for i in range(3):
        expected = by_definition(explained, score, i)
        torch.testing.assert_close(
            often[image == i], expected, rtol=0, atol=0.05 * float(expected.abs().max())
        )
        if len(expected) == 2:  # an order and its reverse are all there are
            torch.testing.assert_close(once[image == i], expected)


def test_the_values_sum_to_what_all_do_together(explained, texts):
    score = make_score(texts, "margin", torch.tensor([0, 3, 1, 1, 2]), 8.0)
    latents = explained.latents
    values = Shapley(orders=2)(explained, score)
    sums = torch.zeros(len(explained.x)).double().index_add(0, explained.image_rows(), values)
    empty = explained.x - (latents.to_dense() @ explained.W_dec).view_as(explained.x)
    ends = [score(explained.tail(x, explained.context), slice(0, 5)) for x in (explained.x, empty)]
    torch.testing.assert_close(sums, ends[0] - ends[1])
    assert (values[latents.values <= 0] == 0).all()


def test_a_quadratic_score_tells_the_methods_apart():
    """`y = sum_j l_j s_j + sum_ij q_ij s_i s_j`, `s_j` 1 where latent `j` is there: all is known by hand."""
    generator = torch.Generator().manual_seed(1)
    a, q = torch.rand(5, generator=generator).double() + 0.5, torch.randn(5, 5, generator=generator).double()
    slope, q = torch.randn(5, generator=generator).double(), (q + q.T) / 2
    explained = game(a[None], torch.eye(5).double(), lambda x, context: x[:, 0] / a)

    def score(s, rows):
        return s @ slope + ((s @ q) * s).sum(1)

    own, others = q.diagonal(), 2 * (q.sum(1) - q.diagonal())
    found = {
        m.name: m(explained, score) for m in (Ablation(), ActGrad(), IntegratedGradients(), Shapley(300))
    }
    torch.testing.assert_close(found["ablation"], slope + own + others)
    torch.testing.assert_close(found["act_grad"], slope + 2 * own + others)
    torch.testing.assert_close(found["integrated_gradients"], slope + own + others / 2)
    torch.testing.assert_close(found["shapley"], slope + own + others / 2, rtol=0, atol=0.15)


def test_no_orders():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Shapley(orders=0)
