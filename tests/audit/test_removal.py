"""The net effect of a removal, against brute force, simulation and what is known beforehand."""

import math

import numpy as np
import pytest
import torch

from lightning_sae.audit.evidence.removal import Cells, best_threshold, gap, net_effect, share_change


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(margins, threshold, cells):
    """Balanced error of predicting the class from a margin on, a mean over parts."""
    missed = np.mean([float((margins[cell] < threshold).double().mean()) for cell in cells.own])
    taken = np.mean([float((margins[cell] >= threshold).double().mean()) for cell in cells.others])
    return (missed + taken) / 2


def lowest_error(margins, cells):
    return min(error(margins, threshold, cells) for threshold in [*margins.tolist(), math.inf])


def two_parts(n, m):
    """`n` images of the class, then `m` others; both in two parts, a third and two thirds."""
    place = torch.arange(n + m)
    own = place < n
    third = place % 3 == 0
    return Cells((own & third, own & ~third), (~own & third, ~own & ~third))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("parts", [1, 2])
def test_the_net_effect_is_that_of_all_thresholds(seed, parts):
    n, m = 20, 45
    own = torch.arange(n + m) < n
    cells = two_parts(n, m) if parts == 2 else Cells((own,), (~own,))
    before, after = (numbers(2, n + m, seed=seed) + own).round(decimals=1)  # with ties
    expected = lowest_error(before, cells) - lowest_error(after, cells)
    assert net_effect(before, after, cells).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [7, 64, 500])
@pytest.mark.parametrize("shift", [-40.0, -0.7, 0.3, 5.0])
def test_a_shift_alone_changes_nothing(n, shift):
    own = torch.arange(6 * n) < n
    before = (numbers(6 * n) + own).double()
    found = net_effect(before, before + shift, Cells((own,), (~own,)))
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_a_larger_scale_changes_nothing():
    own = torch.arange(600) < 100
    before = numbers(600) + own
    assert net_effect(before, 4 * before, Cells((own,), (~own,))) == (0.0, 0.0, 0.0, 1.0)


def test_nothing_removed_is_no_gain():
    own = torch.arange(60) < 20
    margins = numbers(60)
    assert net_effect(margins, margins.clone(), Cells((own,), (~own,))) == (0.0, 0.0, 0.0, 1.0)


def cue_world(n=400, m=1600, own_cue=0.9, seed=0):
    """Evidence for the class, and a cue that most of its images have and a quarter of the others."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.arange(n + m) < n
    cue = torch.rand(n + m, generator=generator) < torch.where(own, own_cue, 0.25)
    evidence = torch.randn(n + m, generator=generator) + 3.0 * own - 1.5
    return own, cue, evidence


def test_a_detector_of_the_class_is_a_part_of_it():
    own, _, evidence = cue_world()
    rest = numbers(len(own), seed=5)
    found = net_effect(evidence + rest, rest, Cells((own,), (~own,)))
    assert found.high < 0
    assert found.p > 0.99


def test_a_cue_that_says_nothing_of_the_class_does_harm():
    """It is as frequent on both, and moves the margin."""
    own, cue, evidence = cue_world(own_cue=0.25)
    found = net_effect(evidence + 2.0 * cue, evidence, Cells((own,), (~own,)))
    assert found.low > 0
    assert found.p < 1e-3


def test_where_the_cue_is_known_its_company_with_the_class_is_worth_nothing():
    """Nine of ten images of the class have it: it helps on these data, and harms where sides count alike."""
    own, cue, evidence = cue_world()
    margins = evidence + 2.0 * cue
    as_they_are = net_effect(margins, evidence, Cells((own,), (~own,)))
    alike = Cells((own & cue, own & ~cue), (~own & cue, ~own & ~cue))
    assert as_they_are.value < 0 < net_effect(margins, evidence, alike).low


def test_parts_count_alike_however_large_they_are():
    """Copies of the images of one part change no error."""
    cells = two_parts(12, 30)
    before, after = numbers(2, 42) + cells.own[0] + cells.own[1]
    more = torch.cat([torch.arange(42), *[cells.own[0].nonzero().flatten()] * 9])
    repeated = Cells(*(tuple(part[more] for part in kind) for kind in cells))
    found, again = net_effect(before, after, cells), net_effect(before[more], after[more], repeated)
    assert again.value == pytest.approx(found.value, abs=1e-12)


def test_the_interval_has_the_true_gain_in_it():
    """Of the best thresholds of normal margins the gain is known: error Phi(-d / 2) at a distance d."""
    phi = torch.distributions.Normal(0.0, 1.0).cdf
    truth = float(phi(torch.tensor(-0.75)) - phi(torch.tensor(-1.25)))
    inside = 0
    for seed in range(100):
        own = torch.arange(600) < 200
        noise = numbers(600, seed=seed)
        found = net_effect(noise + 1.5 * own, noise + 2.5 * own, Cells((own,), (~own,)))
        inside += found.low <= truth <= found.high
    assert inside >= 88  # of 95 expected, less 3 standard deviations


@pytest.mark.parametrize("kind", [0, 1])
def test_a_part_without_images_tells_nothing(kind):
    own = torch.arange(9) < 4
    parts = [(own,), (~own,)]
    parts[kind] = (*parts[kind], torch.zeros(9, dtype=torch.bool))
    found = net_effect(numbers(9), numbers(9), Cells(*parts))
    assert all(math.isnan(x) for x in found[:3])
    assert found.p == 1


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed):
    cells = two_parts(15, 40)
    margins = (numbers(55, seed=seed) + cells.own[0] + cells.own[1]).double().round(decimals=1)
    best = best_threshold(margins, cells)
    errors = {t: error(margins, math.nextafter(t, 9.0), cells) for t in [0.0, *margins.tolist()]}
    assert errors[best] == pytest.approx(min(errors.values()))


def test_the_spread_of_a_share_is_that_of_its_counts():
    """Paired: `(share of changes - square of the mean) / n`; of two groups: `p (1 - p) / n` each."""
    before = torch.arange(400) < 160
    after = (torch.arange(400) >= 40) & (torch.arange(400) < 180)  # 40 fall, 20 rise
    found, spread = share_change(before, after), math.sqrt((60 / 400 - 0.05**2) / 400)
    assert found.value == pytest.approx(0.05)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    first, second = torch.arange(300) < 90, torch.arange(500) < 50
    found, spread = gap(first, second), math.sqrt(0.3 * 0.7 / 300 + 0.1 * 0.9 / 500)
    assert found.value == pytest.approx(0.2)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    assert found.p < 1e-6


def test_shares_of_nothing():
    none, some = torch.zeros(0, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    for found in (share_change(none, none), gap(none, some), gap(some, none)):
        assert all(math.isnan(x) for x in found[:3])
        assert found.p == 1


def test_what_always_changes_is_sure():
    assert share_change(torch.ones(9) > 0, torch.zeros(9) > 0) == (1.0, 1.0, 1.0, 0.0)
    assert share_change(torch.ones(9) > 0, torch.ones(9) > 0) == (0.0, 0.0, 0.0, 1.0)
