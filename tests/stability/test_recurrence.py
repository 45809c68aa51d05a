"""Recurrence of hand-made dictionaries: the shares are known."""

import numpy as np
import pytest
from scipy.sparse import csc_array

from lightning_sae.compare.matching import firing_correlation
from lightning_sae.stability import Dictionary, find_recurring
from lightning_sae.stability.recurrence import find_limits
from lightning_sae.stability.shares import jackknife, reconstruction_shares, recurring_share

N, D_IN = 300, 16


def dictionary(seed, m=12, d_in=D_IN, n=N):
    """Random directions, each active on a tenth of the images, independently."""
    generator = np.random.default_rng(seed)
    firing = (generator.random((n, m)) < 0.1) * generator.uniform(1, 3, (n, m))
    return generator.standard_normal((m, d_in)), firing


def made(directions, firing):
    return Dictionary(directions, csc_array(firing))


def of_concepts(directions, images=None):
    """A latent for each concept: a direction and ten images of its own."""
    firing = np.repeat(np.eye(40), 10, axis=0)
    return made(np.eye(40)[directions], firing[:, directions if images is None else images])


def test_an_equal_dictionary_recurs_whole_in_any_order_and_scale():
    directions, firing = dictionary(0)
    order = np.random.default_rng(1).permutation(12)
    other = made(3 * directions[order], 0.2 * firing[:, order])
    found = find_recurring([made(directions, firing), other])
    assert found.probability(0).tolist() == found.probability(1).tolist() == [1.0] * 12
    np.testing.assert_allclose(found.means(0).similarity, 1)
    pairs = {(int(latent), place) for place, latent in enumerate(order)}
    assert pairs <= {tuple(pair) for pair in found.pairs[0, 1].tolist()}


def test_half_shared_is_half():
    found = find_recurring([of_concepts(range(12)), of_concepts(range(6, 18))])
    assert found.probability(0).tolist() == [0.0] * 6 + [1.0] * 6
    assert found.probability(1).tolist() == [1.0] * 6 + [0.0] * 6
    weights = np.arange(12) / np.arange(12).sum()
    want = (weights[6:].sum() + weights[:6].sum()) / 2
    assert recurring_share(found, [weights, weights]).value == pytest.approx(want)


def test_alike_in_one_way_alone_is_not_alike():
    """A rotated dictionary that fires on the same images, and one of the same directions on others."""
    one, moved = of_concepts(range(12)), range(20, 32)
    for other in (of_concepts(moved, range(12)), of_concepts(range(12), moved)):
        found = find_recurring([one, other])
        assert found.probability(0).tolist() == found.probability(1).tolist() == [0.0] * 12
        assert found.means(0).similarity.max() <= 0


def test_similarity_is_that_of_every_pair():
    one, other = (made(*dictionary(seed)) for seed in (0, 1))
    found = find_recurring([one, other])
    units = [d.directions / np.linalg.norm(d.directions, axis=1, keepdims=True) for d in (one, other)]
    cosine, correlation = units[0] @ units[1].T, firing_correlation(one.activations, other.activations)
    similarity = np.minimum(cosine, correlation)
    for axis, best in ((1, found.means(0)), (0, found.means(1))):
        np.testing.assert_allclose(best.similarity, similarity.max(axis), atol=1e-12)
        where = np.expand_dims(similarity.argmax(axis), axis)
        for part, all_of_it in ((best.cosine, cosine), (best.correlation, correlation)):
            np.testing.assert_allclose(part, np.take_along_axis(all_of_it, where, axis).squeeze(axis))
    alike = (cosine > found.limits.cosine) & (correlation > found.limits.correlation)
    assert found.pairs[0, 1].tolist() == np.argwhere(alike).tolist()
    assert found.probability(0).tolist() == alike.any(1).tolist()
    assert found.probability(1).tolist() == alike.any(0).tolist()


def test_chunks_change_nothing(monkeypatch):
    some = [made(*dictionary(seed)) for seed in (0, 1, 2)]
    whole = find_recurring(some)
    monkeypatch.setattr("lightning_sae.stability.recurrence.CHUNK", 5)
    parts = find_recurring(some)
    assert parts.limits == pytest.approx(whole.limits)
    for place in range(3):
        np.testing.assert_allclose(parts.means(place), whole.means(place), atol=1e-12)
        np.testing.assert_array_equal(parts.matched(place), whole.matched(place))


def test_the_limits_leave_a_level_of_the_latents_with_another_of_their_own():
    some, above, pairs = [made(*dictionary(seed, m=100)) for seed in (0, 1)], [], []
    limits = find_limits(some, level=0.2)
    for d in some:
        units = d.directions / np.linalg.norm(d.directions, axis=1, keepdims=True)
        parts = np.stack([units @ units.T, np.corrcoef(d.activations.toarray().T)])
        over = (parts > np.array(limits)[:, None, None]) & ~np.eye(100, dtype=bool)
        above += over.all(0).any(1).tolist()
        pairs.append(over.mean((1, 2)))
    assert np.mean(above) == pytest.approx(0.2, abs=0.011)  # they come in twos
    assert np.ptp(np.mean(pairs, 0)) < 2e-3  # either limit leaves as many pairs


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("alike", ["nothing", "images", "direction"])
def test_the_level_is_the_rate_of_false_matches(alike, level):
    """Dictionaries that have nothing in common match at the level; one of the two alone is never enough."""
    (directions, firing), (others, elsewhere) = (dictionary(seed, m=500, d_in=32) for seed in (0, 1))
    rows, fires = directions if alike == "direction" else others, firing if alike == "images" else elsewhere
    found = find_recurring([made(directions, firing), made(rows, fires)], level)
    slack = 4 * np.sqrt(level * (1 - level) / 500)
    rate = found.probability(0).mean()
    assert rate == pytest.approx(level, abs=slack) if alike == "nothing" else rate <= level + slack


def test_probabilities_are_over_the_other_dictionaries():
    """Concepts 0 to 3 are in all of five dictionaries, 4 to 7 in three, the others in one."""
    found = find_recurring(
        [
            of_concepts([*range(8 if place < 3 else 4), *range(10 + 5 * place, 14 + 5 * place)])
            for place in range(5)
        ]
    )
    assert found.probability(0).tolist() == [1.0] * 4 + [0.5] * 4 + [0.0] * 4
    assert found.probability(4).tolist() == [1.0] * 4 + [0.0] * 4
    assert found.means(0).cosine[:8] == pytest.approx([1.0] * 4 + [0.5] * 4)


def test_fewer_than_two_are_refused():
    one = made(*dictionary(0))
    with pytest.raises(ValueError, match="two dictionaries at least, got 1"):
        find_recurring([one])
    with pytest.raises(ValueError, match="two latents at least, got one with 1"):
        find_recurring([one, made(*dictionary(1, m=1))])
    with pytest.raises(ValueError, match="not over the same images"):
        find_recurring([one, made(*dictionary(1, n=N + 1))])


def test_the_jackknife_of_a_mean_is_the_standard_error():
    """Where what two runs share is the mean of what each has, leaving runs out gives `sd / sqrt(n)`."""
    x = np.array([0.2, 0.5, 0.4, 0.6, 0.3])
    found = jackknife((x[:, None] + x) / 2)
    reach = 2.776 * x.std(ddof=1) / np.sqrt(5)  # Student's t, 4 degrees of freedom
    assert found == pytest.approx((x.mean(), x.mean() - reach, x.mean() + reach), abs=1e-3)
    assert np.isnan(jackknife(np.full((2, 2), 0.5))[1:]).all()


def test_reconstruction_shares_are_those_of_the_variance():
    directions, firing = dictionary(0)
    shares = reconstruction_shares(directions, csc_array(firing))
    x_hat = firing @ directions
    total = x_hat.var(0).sum()
    want = [
        np.cov(np.outer(firing[:, j], directions[j]).T, x_hat.T, ddof=0)[:D_IN, D_IN:].trace()
        for j in range(12)
    ]
    np.testing.assert_allclose(shares, np.array(want) / total)
    assert shares.sum() == pytest.approx(1)
    assert np.isnan(reconstruction_shares(directions, csc_array(0 * firing))).all()
