"""Steering on planted latents and pairs, where success, damage and area are known."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.attribution.explained import Explained
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.pairs.responses import FactorValue
from lightning_sae.steering.curve import Curve, area_under
from lightning_sae.steering.directions import (
    mean_difference,
    probe_direction,
    random_direction,
    text_direction,
)
from lightning_sae.steering.feature import Direction, Latents, scaled, steer
from lightning_sae.steering.intervention import Scale, edited
from lightning_sae.steering.readouts import Readout, fitted_readout, known_readouts
from lightning_sae.steering.trial import Trial

HAT, P = FactorValue("hat", "red"), 30


def tail(x, _context):
    return normalize(x.sum(1), dim=-1)


def images_of(sae, codes, error):
    """Images of a token each that are exactly these codes, and something that no latent explains."""
    x = (codes @ sae.W_dec + error)[:, None]
    return Explained.of(tail, sae.float(), x.float())


@pytest.fixture
def pairs(planted):
    """Latent 0 is a red hat, 1 a blue one; 2 and 3 are the values of the sky, 4 is on everywhere."""
    draws = torch.Generator().manual_seed(2)
    sky = torch.randint(2, (P,), generator=draws)
    lacking = torch.zeros(P, 6).double()
    lacking[:, 1], lacking[:, 4] = 2.0, 1.0
    lacking[torch.arange(P), 2 + sky] = 2.0
    there = lacking.clone()
    there[:, 0], there[:, 1] = 2.0, 0.0
    noise = 0.1 * torch.randn(P, 8, generator=draws).double()
    noise -= noise @ planted.W_dec.T @ planted.W_dec
    return images_of(planted, torch.cat([lacking, there]), torch.cat([noise, noise]))


@pytest.fixture
def readouts(planted):
    W = planted.W_dec.float()
    hat = LinearClassifier(torch.stack([W[0], W[1]]), torch.zeros(2))
    sky = LinearClassifier(torch.stack([W[2], W[3]]), torch.zeros(2))
    return {"hat": Readout("hat", ["red", "blue"], hat), "sky": Readout("sky", ["day", "night"], sky)}


def feature(sae, latent, unit=2.0):
    return Latents(torch.tensor([latent]), sae.W_dec[[latent]].float(), torch.tensor([unit]))


def test_a_planted_latent_steers_its_value_from_a_known_strength_on(planted, pairs, readouts):
    trial = Trial.of(pairs, HAT, readouts)
    curve = trial.curve(feature(planted, 0), [0.0, 0.5, 0.9, 1.1, 2.0])
    success, damage, distance = curve.means()
    # to come: 2 t > 2 of the blue one; to go: 2 (1 - t) < 0, as no other hat is there
    assert success.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert damage.tolist() == [0.0] * 5
    assert distance[0] > distance[2]
    x, goal = pairs.x[:P, 0], pairs.x[P:, 0]
    asked = tail((x + 2.2 * planted.W_dec[0])[:, None], None)
    taken = tail((goal - 2.2 * planted.W_dec[0])[:, None], None)
    e, e_goal = tail(x[:, None], None), tail(goal[:, None], None)
    expected = 1 - ((asked * e_goal).sum(1) + (taken * e).sum(1)) / 2
    torch.testing.assert_close(torch.tensor(curve.distance[3]).float(), expected, rtol=1e-4, atol=1e-5)


def test_a_latent_of_another_factor_is_damage_and_no_success(planted, pairs, readouts):
    curve = Trial.of(pairs, HAT, readouts).curve(feature(planted, 2), [0.0, 1.5])
    success, damage, _ = curve.means()
    assert success.tolist() == [0.0, 0.0]
    day = (pairs.x[:P, 0] @ planted.W_dec[2] > 1).double().mean()
    # to come: 3 of the day beside 2 of the night flips each night; to go: -1 of the day flips each day
    assert damage.tolist() == pytest.approx([0.0, float(((1 - day) + day) / 2)])
    area = curve.area(most=0.5)
    assert (area.mean, area.low, area.high) == (0.0, 0.0, 0.0)


def test_answers_that_the_pair_itself_changes_are_no_damage(planted, pairs, readouts):
    other = Readout("brim", ["red", "blue"], readouts["hat"].classifier)  # reads the hat again
    trial = Trial.of(pairs, HAT, {"hat": readouts["hat"], "brim": other})
    curve = trial.curve(feature(planted, 0), [0.0, 2.0])
    assert np.isnan(curve.damage).all()
    assert curve.means()[1].tolist() == [0.0, 0.0]


def test_a_value_that_nothing_reads_has_no_trial(pairs, readouts):
    assert Trial.of(pairs, FactorValue("hat", "green"), readouts) is None
    assert Trial.of(pairs, FactorValue("shoe", "red"), readouts) is None


def test_steering_is_the_intervention(planted, pairs):
    sae, brings = planted.float(), torch.arange(2 * P) < P
    found = steer(pairs, feature(planted, 0, unit=1.5), 0.75, brings)
    x = pairs.x[:, 0]
    torch.testing.assert_close(found[:P], tail(edited(sae, x[:P], {0: 1.125})[:, None], None))
    torch.testing.assert_close(found[P:], tail(edited(sae, x[P:], {0: Scale(0.25)})[:, None], None))
    both = scaled(pairs, [feature(planted, 0), feature(planted, 2)], [-1.0, 3.0])
    torch.testing.assert_close(both, tail(edited(sae, x, {0: Scale(-1), 2: Scale(3)})[:, None], None))


def test_directions_find_what_was_planted(planted, pairs):
    W, x = planted.W_dec.float(), pairs.x[:, 0]
    there, lacking = x[P:], x[:P]
    true = normalize(W[0] - W[1], dim=0)
    for direction in (mean_difference(there, lacking), probe_direction(there, lacking)):
        assert isinstance(direction, Direction)
        torch.testing.assert_close(direction.vectors[0], true, rtol=0, atol=1e-3)
        assert float(direction.unit) == pytest.approx(8**0.5, rel=1e-3)
        coordinates = direction.read(pairs).flatten()
        torch.testing.assert_close(coordinates[:P], torch.zeros(P), rtol=0, atol=1e-2)
        torch.testing.assert_close(coordinates[P:], direction.unit.expand(P), rtol=0, atol=1e-2)
    text = W[0] + W[2]
    found = text_direction(text, pairs.images(0, P), there, lacking)
    step = 1e-3 * found.vectors[0]
    rise = tail((lacking + step)[:, None], None) @ text - tail(lacking[:, None], None) @ text
    for other in (true, *W):  # nothing raises the mean cosine more
        along = tail((lacking + 1e-3 * other)[:, None], None) @ text - tail(lacking[:, None], None) @ text
        assert float(along.mean()) <= float(rise.mean()) + 1e-6
    drawn = random_direction(there, lacking, seed=1)
    assert float(drawn.unit) == pytest.approx(8**0.5, rel=1e-3)
    assert not torch.equal(drawn.vectors, random_direction(there, lacking, seed=2).vectors)


def test_the_area_by_hand():
    success = np.array([0.0, 0.4, 1.0, 0.6])
    damage = np.array([0.0, 0.02, 0.06, 0.2])
    # best 0 up to 0.02, 0.4 up to 0.06, 1 up to 0.1
    assert area_under(success, damage, 0.1) == pytest.approx((0.04 * 0.4 + 0.04 * 1.0) / 0.1)
    assert area_under(success[:2], damage[:2], 0.01) == 0
    assert area_under(success, damage, 1.0) == pytest.approx(0.04 * 0.4 + 0.94 * 1.0)
    fine = np.linspace(0, 0.1, 100_001)
    steps = [success[damage <= d].max() for d in fine[::1000]]
    assert area_under(success, damage, 0.1) == pytest.approx(np.mean(steps), abs=0.01)


def test_the_interval_covers_what_it_should():
    draws, covered = np.random.default_rng(0), 0
    for _ in range(60):
        success = np.stack([np.zeros(40), (draws.random(40) < 0.7).astype(float)])
        curve = Curve(np.array([0.0, 1.0]), success, np.zeros((2, 40)), np.zeros((2, 40)))
        area = curve.area(0.1, resamples=300)
        assert area.mean == pytest.approx(success[1].mean())
        covered += area.low <= 0.7 <= area.high
    assert covered >= 51  # 95 % of 60 are 57; fewer than 51 would be one in 10^3
    one = Curve(np.array([0.0, 1.0]), np.ones((2, 1)), np.zeros((2, 1)), np.zeros((2, 1))).area(0.1)
    assert np.isnan(one.low)


def test_readouts():
    e = torch.eye(4).repeat(5, 1)
    truth = torch.arange(4).repeat(5)
    factors = {"class": (["a", "b"], truth % 2), "word": (["x", "y"], torch.where(truth < 2, truth, -1))}
    found = known_readouts(["a", "b"], torch.eye(4)[:2], e, factors)
    assert list(found) == ["class", "word"]
    assert found["class"].read(torch.eye(4)[:2]).tolist() == [0, 1]  # by the prompts
    assert found["word"].values == ["x", "y", "none"]
    assert found["word"].read(torch.eye(4)).tolist() == [0, 1, 2, 2]
    assert fitted_readout("hat", ["red"], e, torch.zeros(20, dtype=torch.long)) is None
    sparse = fitted_readout("hat", ["red", "green", "blue"], e[:2], torch.tensor([0, 2]))
    assert sparse.values == ["red", "blue"]
