import numpy as np
import pytest
import torch

from lightning_sae.data import Moments
from lightning_sae.metrics import moments as statistics


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_moments_survive_a_mean_that_dwarfs_the_spread(monkeypatch, chunk):
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    x = torch.randn(101, 6, generator=torch.Generator().manual_seed(0)) * 1e-2 + 1e3
    moments = Moments.of(x)
    exact = x.double().numpy()
    np.testing.assert_allclose(moments.mean.numpy(), exact.mean(0), rtol=1e-13)
    assert moments.spread == pytest.approx(((exact - exact.mean(0)) ** 2).sum(), rel=1e-9)


def test_merge_does_not_depend_on_the_order():
    parts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (1, 4, 9)]
    a, b, c = map(Moments.of, parts)
    left, right = Moments.union([a, b, c]), Moments.union([a, Moments.union([c, b])])
    torch.testing.assert_close(left.mean, right.mean)
    assert left.spread == pytest.approx(right.spread)
    assert left.n == 14


def test_scaled_activations_have_mean_square_norm_d_in():
    x = torch.randn(50, 8, dtype=torch.float64) * 3 + 5
    mean, scale, n = Moments.of(x).statistics()
    assert n == 50
    assert float((scale * (x - mean)).square().sum(1).mean()) == pytest.approx(8, rel=1e-6)
