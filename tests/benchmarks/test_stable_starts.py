"""The measures and the ways of `benchmarks/stable_starts.py`, where the truth is known."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from scipy.optimize import nnls
from torch.nn.functional import normalize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def starts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("stable_starts")


@pytest.fixture
def ways(starts):
    return importlib.import_module("start_ways")


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


def test_the_latents_of_a_permuted_dictionary_all_agree(starts, random):
    rows = normalize(torch.randn(12, 6, generator=random), dim=1)
    fired = torch.rand(30, 12, generator=random)
    order = torch.randperm(12, generator=random)
    one = starts.Result(0.0, 0.0, 0.0, rows, rows, fired)
    other = starts.Result(0.0, 0.0, 0.0, rows, rows[order], 3 * fired[:, order])
    assert starts.agreement(one, other, level=0.99) == pytest.approx((1, 1, 1, 1))
    opposite = other._replace(rows=-rows[order])
    assert starts.agreement(one, opposite, level=0.99).cosine < 0.9  # a direction and its opposite are two


def test_only_a_twentieth_of_random_dictionaries_reaches_the_level(starts, random):
    x = torch.randn(2000, 8, generator=random) @ torch.diag(torch.arange(1.0, 9.0))
    level = starts.random_level(x, 64, draws=20)
    root = torch.linalg.cholesky(torch.cov(x.T))
    pairs = [[torch.randn(64, 8, generator=random) @ root.T for _ in range(2)] for _ in range(20)]
    reached = torch.cat([starts.matched(*pair)[1] for pair in pairs]) > level
    assert float(reached.float().mean()) == pytest.approx(0.05, abs=0.02)


def test_the_jackknife_of_a_mean_is_students_interval(starts):
    values = [1.0, 2.0, 4.0, 9.0, 4.0]
    mean, half = starts.jackknife(5, lambda places: sum(values[i] for i in places) / len(places))
    assert mean == pytest.approx(4)
    assert half == pytest.approx(2.776445 * math.sqrt(9.5 / 5))  # t of 4 degrees, sample variance 9.5


def test_what_all_dictionaries_share_is_pooled_first(ways, random):
    shared = normalize(torch.randn(5, 16, generator=random), dim=1)
    own = normalize(torch.randn(3, 4, 16, generator=random), dim=2)
    orders = [torch.randperm(9, generator=random) for _ in range(3)]
    groups = ways.recurring(
        [torch.cat([shared, rows])[order] for rows, order in zip(own, orders, strict=True)]
    )
    meant = [{(i, int((order == j).nonzero())) for i, order in enumerate(orders)} for j in range(5)]
    assert sorted(map(sorted, groups[:5])) == sorted(map(sorted, meant))
    assert sorted(one for group in groups for one in group) == [(i, j) for i in range(3) for j in range(9)]


def test_rows_stay_in_the_hull_and_leave_it_by_no_more_than_the_radius(ways, random):
    points = normalize(torch.randn(6, 10, generator=random), dim=1)
    first = torch.tensor([3, 0, 5, 1])
    for radius in (0.0, 0.2):
        hull = ways.Hull(3 * points, first, radius)
        torch.testing.assert_close(hull(), normalize(points[first], dim=1))
        with torch.no_grad():
            hull.weights.copy_(torch.randn(4, 6, generator=random) + 1)
            hull.deviation.copy_(100 * torch.randn(4, 10, generator=random))
        outside = [nnls(points.T.numpy(), row.detach().numpy())[1] for row in hull()]
        assert (max(outside) < 1e-5) == (radius == 0)
        shares = hull.weights.relu() / hull.weights.relu().sum(1, keepdim=True)
        for row, inside in zip(hull(), shares @ points, strict=True):
            # the nearest point on the ray of the row is no farther from the hull than the deviation
            assert (inside - (inside @ row) * row).norm() <= radius + 1e-5
