import math

import numpy as np
import pytest
import torch

from lightning_sae.metrics import interval, mean_in_units


def test_the_interval_covers_a_known_mean_as_often_as_it_claims():
    generator = np.random.default_rng(0)
    samples = torch.from_numpy(generator.exponential(2.0, size=(100, 400)))  # 400 studies of 100 images
    _, low, high = interval(samples, confidence=0.9, resamples=500)
    covered = ((low < 2.0) & (high > 2.0)).double().mean()
    assert 0.84 < covered < 0.93  # percentile intervals of a skewed mean are a little short


def test_the_interval_of_a_ratio_covers_it_as_often_as_it_claims():
    generator = np.random.default_rng(0)
    unit = generator.exponential(1.0, size=(300, 100))
    covered = 0
    for u in unit:
        samples = torch.from_numpy(0.7 * u + generator.normal(0, 0.1, size=100))
        _, low, high = interval(samples, torch.from_numpy(u), confidence=0.9, resamples=200)
        covered += bool(low < 0.7 < high)
        assert high - low < 0.1  # as wide as the noise, not as the spread of the units
    assert 0.84 < covered / 300 < 0.95


def test_the_interval_leaves_out_undefined_images_and_is_seeded():
    samples = torch.tensor([1.0, math.nan, 3.0, 8.0])
    known = interval(samples[[0, 2, 3]])
    assert interval(samples) == known
    assert float(known.mean) == 4
    lonely = interval(samples[:2])
    assert float(lonely.mean) == 1
    assert lonely.low.isnan()
    assert lonely.high.isnan()


def test_a_mean_without_a_positive_unit_is_undefined():
    samples, unit = torch.ones(3, 2), torch.tensor([1.0, -4.0, 2.0])
    assert all(part.isnan().all() for part in interval(samples, unit))
    assert mean_in_units(samples, unit + 1).tolist() == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize(("confidence", "quantile"), [(0.8, 1.2816), (0.95, 1.9600), (0.99, 2.5758)])
def test_a_unit_is_positive_by_its_two_sided_normal_interval(confidence, quantile):
    spread = torch.linspace(-1, 1, 50, dtype=torch.float64)
    error = float(spread.std()) / 50**0.5
    for errors, known in ((quantile - 0.01, False), (quantile + 0.01, True)):
        found = interval(torch.ones(50), spread + errors * error, confidence, resamples=100)
        assert bool(found.low.isfinite()) is known


def test_a_ratio_whose_unit_may_be_zero_has_no_bounds():
    unit = torch.linspace(-1, 1.2, 50)  # mean 0.1, with a standard error of 0.09
    mean, low, high = interval(torch.ones(50), unit)
    assert float(mean) == pytest.approx(10)
    assert low.isnan()
    assert high.isnan()
    assert interval(torch.ones(50), unit + 0.2).low < 1 / 0.3 < interval(torch.ones(50), unit + 0.2).high
