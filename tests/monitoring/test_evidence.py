"""The evidence against its definition, on every sequence, and on streams whose truth is known."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from lightning_sae.monitoring import starts
from lightning_sae.monitoring.bets import ODDS, gain, price
from lightning_sae.monitoring.evidence import NEVER, MeanEvidence, Watch, merge_evidence
from lightning_sae.monitoring.families import ImageEntries, Numbering
from lightning_sae.monitoring.scales import Scales


def entries_of(numbers):
    """Of one test whose number each image has."""
    numbers = np.asarray(numbers, dtype=float)
    there = np.flatnonzero(numbers)
    counted = np.ones((len(numbers), 1), dtype=bool)
    return ImageEntries(there, np.zeros(len(there), dtype=np.int64), numbers[there], counted)


def watch_at(m, alpha=0.05):
    prices = price(np.array([m]), ODDS)
    return Watch(prices, np.zeros(1, dtype=np.int64), np.ones(1), alpha)


def by_definition(numbers, m):
    """Wealth of all bets from all starts, each by itself."""
    factors = np.exp(gain(np.asarray(numbers, dtype=float), ODDS) - price(np.array(m), ODDS)[:, None])
    begun = range(0, len(numbers), starts.EVERY)
    placed = sum(starts.share(i) * factors[:, at:].prod(1).mean() for i, at in enumerate(begun))
    return placed + 1 - sum(starts.share(i) for i in range(len(begun)))


def watched(watch, numbers, parts=1):
    evidence = MeanEvidence.empty(1)
    for part in np.array_split(numbers, parts):
        watch.update(evidence, entries_of(part))
    return evidence


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(starts, "EVERY", 2)
    monkeypatch.setattr(starts, "SCALE", 3)


def test_it_is_the_wealth_of_all_starts(few):
    numbers = np.random.default_rng(0).random(9) * (np.random.default_rng(1).random(9) < 0.5)
    assert np.exp(watched(watch_at(0.3), numbers).log_e()[0]) == pytest.approx(by_definition(numbers, 0.3))


def test_its_mean_is_one_where_nothing_has_changed(few):
    """Over every sequence of seven coins, weighted with its chance."""
    total = 0.0
    for coins in product([0, 1], repeat=7):
        chance = np.prod([0.3 if coin else 0.7 for coin in coins])
        total += chance * np.exp(watched(watch_at(0.3), coins).log_e()[0])
    assert total == pytest.approx(1)


def test_the_chance_that_it_is_ever_high_is_as_said(few):
    """By Ville's inequality, over every sequence of ten coins."""
    ever = 0.0
    for coins in product([0, 1], repeat=10):
        chance = np.prod([0.3 if coin else 0.7 for coin in coins])
        ever += chance * (watched(watch_at(0.3, alpha=0.2), coins).raised[0] != NEVER)
    assert 0 < ever <= 0.2


def test_the_peaks_are_those_of_every_image():
    random = np.random.default_rng(0)
    numbers = random.random(20) * (random.random(20) < 0.4)
    watch, entries = watch_at(0.3), entries_of(numbers)
    steps = gain(numbers, ODDS) - watch.prices
    peaks = watch.peaks(entries, steps.sum(1, keepdims=True))
    np.testing.assert_allclose(peaks[:, 0], steps.cumsum(1).max(1).clip(min=0))


def test_batches_change_nothing(reference, draw, rates):
    stream = draw(700, [0.9, *rates[1:]], seed=5)
    found = []
    for size in (700, 64, 1):
        evidence = MeanEvidence.empty(sum(reference.tests.sizes))
        for start in range(0, 700, size):
            reference.watch.update(evidence, reference.entries(stream.images(start, min(start + size, 700))))
        found.append(evidence)
    assert (found[0].raised == found[2].raised).all()
    assert (found[1].raised == found[2].raised).all()
    assert (found[0].raised != NEVER).any()
    for name in ("placed", "best", "since", "counted", "total"):
        np.testing.assert_allclose(getattr(found[0], name), getattr(found[2], name), rtol=1e-9, atol=1e-9)


def test_streams_without_a_change_raise_few_alarms(draw, rates, facts, classifier):
    from lightning_sae.monitoring.reference import Reference

    raised = 0
    for seed in range(40):
        reference = Reference(facts, draw(400, rates, seed=1000 + seed), classifier)
        evidence = MeanEvidence.empty(sum(reference.tests.sizes))
        reference.watch.update(evidence, reference.entries(draw(2000, rates, seed=2000 + seed)))
        raised += (evidence.raised != NEVER).any()
    assert raised <= binom.ppf(0.999, 40, facts.alpha)


@pytest.mark.parametrize(("rate", "rises"), [(0.5, True), (0.0, False)])
def test_a_change_is_found_where_it_is(reference, draw, rates, rate, rises):
    changed = [*rates]
    changed[9] = rate  # was 0.23
    evidence = MeanEvidence.empty(sum(reference.tests.sizes))
    reference.watch.update(evidence, reference.entries(draw(600, rates, seed=7)))
    assert (evidence.raised == NEVER).all()
    reference.watch.update(evidence, reference.entries(draw(600, changed, seed=8)))
    there = np.flatnonzero(evidence.raised != NEVER)
    first = there[evidence.raised[there].argmin()]
    assert reference.tests.named(first) in {("firing", 9), ("attribution", 9)}
    bet = evidence.best[:, 9].argmax()
    assert (ODDS[bet] > 1) == rises
    assert abs(evidence.since[bet, 9] - 600) <= 50
    assert evidence.total[bet, 9] / evidence.counted[bet, 9] == pytest.approx(rate * 0.95, abs=0.06)


def test_images_that_are_not_attributed_do_not_count_for_attributions(reference, draw, rates):
    stream = draw(100, rates, seed=3)
    half = stream._replace(attributed=stream.attributed & False)
    evidence = MeanEvidence.empty(sum(reference.tests.sizes))
    reference.watch.update(evidence, reference.entries(half._replace(
        shares=stream.shares.with_values(stream.shares.values * 0)
    )))  # fmt: skip
    assert (evidence.counted[:, 12:25] == 0).all()
    begun = -(-100 // starts.EVERY)
    whole = np.logaddexp(starts.log_reserve(begun), np.log1p(-np.exp(starts.log_reserve(begun))))
    np.testing.assert_allclose(evidence.log_e()[12:25], whole, atol=1e-12)  # nothing won, nothing lost


def test_machines_multiply(few):
    numbers = [[1, 0, 1, 1, 1], [0, 1, 1]]
    parts = [watched(watch_at(0.3), some) for some in numbers]
    merged = merge_evidence(parts)
    assert merged.log_e() == pytest.approx(parts[0].log_e() + parts[1].log_e())
    assert merged.seen == 8
    watch_at(0.3).update(merged, entries_of([1, 1]))
    expected = np.log(
        by_definition(numbers[0], 0.3) * by_definition(numbers[1], 0.3) * by_definition([1, 1], 0.3)
    )
    assert merged.log_e()[0] == pytest.approx(expected)


def test_scales_come_from_the_first_images_alone(draw, rates, facts, classifier):
    from lightning_sae.monitoring.reference import Reference

    numbers = draw(500, rates, seed=0)
    reference = Reference(facts, numbers, classifier)
    first = numbers.images(0, 50)
    dense = first.latents.to_dense()
    assert reference.scales.fires.tolist() == pytest.approx((0.3 * dense.amax(0)).tolist())
    assert reference.scales.much == float(first.error.max())
    strong = (numbers.images(50, 500).latents.to_dense() > reference.scales.fires).double().mean(0)
    assert reference.means[:12] == pytest.approx(strong.numpy())


def test_numbers_lie_between_0_and_1(reference, draw, rates):
    entries = reference.entries(draw(300, [0.9] * 12, seed=1, error=0.5))
    assert 0 < entries.values.min() <= entries.values.max() == 1
    assert (np.diff(entries.images) >= 0).all()


def test_families_share_alpha():
    weight = Numbering(d_sae=10).weight
    assert weight.mean() == pytest.approx(1)
    assert weight[:10].sum() / weight.sum() == pytest.approx(0.75)


def test_a_latent_that_never_fired_has_a_scale(draw):
    scales = Scales.of(draw(50, [0.0, 0.5], seed=0))
    assert scales.fires[0] == 0
    assert scales.share[0] > 0
