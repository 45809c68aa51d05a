"""Bets against their definition, bounds against exact tails, shares of wealth against their sum."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from lightning_sae.monitoring import starts
from lightning_sae.monitoring.bets import (
    FALLS,
    ODDS,
    RISES,
    fine_odds,
    gain,
    interval,
    mean_bounds,
    price,
    rate_bounds,
)
from lightning_sae.monitoring.e_values import e_bh


@pytest.mark.parametrize("m", [0.001, 0.2, 0.9])
def test_a_bet_has_mean_one_at_its_bound_and_at_most_one_on_its_side(m):
    """Of two coins; any other number in [0, 1] with that mean lies between, as a bet is linear in it."""
    for means, odds in (([m, m / 2, 0.0], np.array(RISES)), ([m, (1 + m) / 2, 1.0], np.array(FALLS))):
        for mean in means:
            ends = np.exp(gain(np.array([0.0, 1.0]), odds) - price(np.array([m, m]), odds))
            average = (1 - mean) * ends[:, 0] + mean * ends[:, 1]
            assert (average <= 1 + 1e-12).all()
            if mean == m:
                np.testing.assert_allclose(average, 1, rtol=1e-12)
    at = np.exp(gain(np.array(0.3), ODDS) - price(np.array(m), ODDS))
    lambdas = (ODDS - 1) / (1 + m * (ODDS - 1))
    np.testing.assert_allclose(at, 1 + lambdas * (0.3 - m))


@pytest.mark.parametrize("count", [0, 3, 50, 100])
def test_rates_are_bounded_by_exact_tails(count):
    low, high = (float(end[0]) for end in rate_bounds(np.array([count]), 100, np.array([0.01])))
    assert (binom.sf(count - 1, 100, low) if count else low) == pytest.approx(0.01 if count else 0)
    assert (binom.cdf(count, 100, high) if count < 100 else high) == pytest.approx(0.01 if count < 100 else 1)


def test_means_are_bounded_as_often_as_said():
    random, level, wrong = np.random.default_rng(0), np.array(0.05), np.zeros(2)
    for _ in range(400):
        x = random.beta(0.2, 1.8, size=200)  # mean 0.1, skewed
        sums = (gain(x, odds).sum(1) for odds in fine_odds())
        low, high = mean_bounds(*sums, 200, level)
        assert low < x.mean() < high
        wrong += [low > 0.1, high < 0.1]
    assert (wrong <= binom.ppf(0.999, 400, 0.05)).all()


def test_the_bounds_close_in():
    x = np.random.default_rng(0).beta(20, 80, size=20_000)
    widths = []
    for n in (200, 2000, 20_000):
        low, high = mean_bounds(*(gain(x[:n], odds).sum(1) for odds in fine_odds()), n, np.array(0.01))
        widths.append(float(high - low))
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_an_interval_holds_its_mean_and_ends_where_the_divergence_says():
    low, high = interval(0.2, 300)
    assert low < 0.2 < high
    for end in (low, high):
        kl = 0.2 * np.log(0.2 / end) + 0.8 * np.log(0.8 / (1 - end))
        assert 300 * kl == pytest.approx(np.log(40), rel=1e-6)
    assert interval(0.0, 10)[0] == 0
    assert interval(0.5, 0) == (0, 1)


def test_the_shares_of_all_starts_and_the_reserve_are_the_whole():
    for n in (0, 1, 7, 500):
        placed = sum(starts.share(i) for i in range(n))
        assert placed + np.exp(starts.log_reserve(n)) == pytest.approx(1)


def test_e_bh_is_the_largest_set_of_its_definition():
    random = np.random.default_rng(0)
    for _ in range(50):
        e, alpha = np.exp(random.normal(1, 2, size=7)), 0.2
        sets = [{*some} for k in range(8) for some in combinations(range(7), k)]
        fitting = [some for some in sets if all(e[j] >= 7 / (alpha * len(some)) for j in some)]
        assert {*np.flatnonzero(e_bh(np.log(e), alpha)).tolist()} == max(fitting, key=len)
