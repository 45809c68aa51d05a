"""How latents drive the images of a class, against dense brute force and autograd."""

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.explained import Explained
from lightning_sae.attribution.methods import attribute_own
from lightning_sae.classifiers.scores import ClassScores
from lightning_sae.types import SparseLatents


def dense(n, d_sae, seed=0, share=0.4):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, d_sae, generator=generator)
    return torch.where(torch.rand(n, d_sae, generator=generator) < share, values, 0.0)


def test_means_of_classes():
    values, classes = dense(30, 7), torch.randint(-1, 3, (30,), generator=torch.Generator().manual_seed(1))
    found = SparseLatents.from_dense(values).class_means(classes, 4)
    expected = torch.stack([values[classes == c].mean(0) for c in range(4)])
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found[3].isnan().all()


@pytest.mark.parametrize("t", [1, 3])
def test_sums_over_tokens(t):
    values = dense(4 * t, 6)
    found = SparseLatents.from_dense(values).sum_tokens(t)
    torch.testing.assert_close(found.to_dense(), values.view(4, t, 6).sum(1))


def test_images_on_which_nothing_fires_keep_their_row():
    values = torch.zeros(6, 3)
    values[4, 1] = 2.0
    found = SparseLatents.from_dense(values).sum_tokens(2)
    assert found.to_dense().tolist() == [[0, 0, 0], [0, 0, 0], [0, 2, 0]]


def test_parts_one_after_the_other():
    parts = [dense(n, 5, seed) for seed, n in enumerate([3, 1, 4])]
    parts.append(torch.zeros(2, 5))
    found = SparseLatents.stack([SparseLatents.from_dense(part) for part in parts])
    assert torch.equal(found.to_dense(), torch.cat(parts))


def test_some_latents_alone():
    values, chosen = dense(9, 8), torch.tensor([5, 0, 3])
    latents = SparseLatents.from_dense(values)
    assert torch.equal(latents.columns(chosen).to_dense(), values[:, chosen])
    assert latents.columns(torch.tensor([], dtype=torch.int64)).to_dense().shape == (9, 0)
    topk = SparseLatents.from_topk(torch.ones(9, 2), torch.tensor([[0, 3]] * 9), 8)
    assert topk.columns(chosen).to_dense().sum(0).tolist() == [0, 9, 9]


@pytest.mark.parametrize("output", ["cosine", "logit", "margin", "probability"])
@pytest.mark.parametrize("t", [1, 3])
def test_attribution_of_each_images_own_class_is_that_of_autograd(output, t):
    n, d_in, d_sae = 4, 5, 6
    generator = torch.Generator().manual_seed(0)
    W_dec, x = torch.randn(d_sae, d_in, generator=generator), torch.randn(n, t, d_in, generator=generator)
    texts = normalize(torch.randn(3, d_in, generator=generator), dim=1)
    a, classes = dense(n * t, d_sae).abs(), torch.tensor([2, 0, 0, 1])
    scores = ClassScores(texts, output, 10.0)

    def tail(x, context):
        return normalize(x.tanh().sum(1) + context, dim=-1)

    context = torch.randn(n, d_in, generator=generator)
    explained = Explained(tail, W_dec, x, x, SparseLatents.from_dense(a), context)
    found = attribute_own(explained, scores, classes).to_dense()
    active = a.clone().requires_grad_()
    error = x.flatten(0, 1) - a @ W_dec
    own = scores(tail((active @ W_dec + error).view_as(x), context))[torch.arange(n), classes]
    (gradient,) = torch.autograd.grad(own.sum(), active)
    torch.testing.assert_close(found, (a * gradient).view(n, t, d_sae).sum(1), rtol=1e-4, atol=1e-5)
