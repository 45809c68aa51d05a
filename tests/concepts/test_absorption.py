"""Absorption that is planted by hand is found, to two points in a hundred."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from lightning_sae.concepts.absorption import absorption, image_absorption
from lightning_sae.concepts.families import family_factors
from lightning_sae.concepts.linear_probes import linear_probes
from lightning_sae.types import SparseLatents

N, D = 6000, 24


def planted(silent, leak=0.0, seed=0):
    """Images of birds (0.4), 0.3 of them penguins, and ten other things, each with a direction of its own.

    The parent's latent is silent on a share of the penguins: there one that fires on penguins alone says
    "bird" and "penguin" at once. On the others it fires, and a third says "penguin", with a `leak` of "bird".
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(D, D, generator=generator)).Q[:12]
    bird = torch.rand(N, generator=generator) < 0.4
    penguin = bird & (torch.rand(N, generator=generator) < 0.3)
    absorbed = penguin & (torch.rand(N, generator=generator) < silent)
    others = (torch.rand(N, 10, generator=generator) < 0.2) * (0.5 + torch.rand(N, 10, generator=generator))
    strength = 0.8 + 0.4 * torch.rand(N, generator=generator)
    of_penguin = 0.8 + 0.4 * torch.rand(N, generator=generator)
    both = directions[0] + directions[1]
    decoder = torch.stack([directions[0], directions[1] + leak * directions[0], both, *directions[2:]])
    shown = penguin & ~absorbed
    latents = torch.stack(
        [
            (bird & ~absorbed) * strength - leak * shown * of_penguin,
            shown * of_penguin,
            absorbed * (strength + of_penguin) / 2,
        ],
        dim=1,
    )
    latents = torch.cat([latents, others], 1).clamp_min(0)
    x = latents @ decoder + 0.05 * torch.randn(N, D, generator=generator)
    return SparseLatents.from_dense(latents), decoder, x, bird, absorbed


@pytest.mark.parametrize("silent", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_absorption_is_recovered(silent, seed):
    latents, decoder, x, bird, absorbed = planted(silent, seed=seed)
    found = absorption(latents, decoder, x, bird.long() - 1, n_values=1)
    truth = float(absorbed[bird].float().mean())
    assert found.share[0] == pytest.approx(truth, abs=0.02)
    assert found.full[0] == pytest.approx(truth, abs=0.02)
    assert found.absorber[0] == (2 if silent else -1)
    assert found.images[0] == pytest.approx(int(bird.sum()) / 2, rel=0.05)


def test_planted_partial_absorption_is_recovered():
    """On the penguins that "bird" fires on, the penguin's latent carries 0.6 of "bird" all the same."""
    latents, decoder, x, bird, absorbed = planted(0.5, leak=0.6)
    found = absorption(latents, decoder, x, bird.long() - 1, n_values=1)
    carried = latents.to_dense()[bird][:, :3] * torch.tensor([1.0, 0.6, 1.0])
    by_others = carried[:, 1:].sum(1) / carried.sum(1)
    truth = torch.where(by_others >= 0.4, by_others, 0).mean()
    assert found.share[0] == pytest.approx(float(truth), abs=0.02)
    assert found.full[0] == pytest.approx(float(absorbed[bird].float().mean()), abs=0.02)


def test_main_latents_can_be_given():
    latents, decoder, x, bird, _ = planted(0.5)
    labels = bird.long() - 1
    assert absorption(latents, decoder, x, labels, 1, main=[np.array([0, 2])]).share[0] < 0.01
    assert absorption(latents, decoder, x, labels, 1, main=[np.array([3])]).share[0] > 0.9
    assert np.isnan(absorption(latents, decoder, x, labels, 1, main=[np.array([], int)]).share[0])


def by_hand(activations, decoder, probe, main):
    """SAEBench's rules for one image, in words."""
    unit = probe / np.linalg.norm(probe)
    carried = activations * (decoder @ unit)
    cosine = decoder @ unit / np.linalg.norm(decoder, axis=1)
    total, mine = carried.sum(), carried[main].sum()
    others = sorted(
        (c for j, c in enumerate(carried) if j not in main and cosine[j] >= 0.1 and c > 0), reverse=True
    )
    absorbers = sum(others[:3])
    top = carried.argmax()
    full = (
        all(activations[j] == 0 for j in main)
        and total > 0
        and carried[top] > 0
        and cosine[top] >= 0.025
        and carried[top] >= 0.4 * total
    )
    if total <= 0 or mine >= total or absorbers < 0.4 * total:
        return 0.0, full
    for_main = min(absorbers, total - mine)
    return for_main / (for_main + max(mine, 0)), full


@pytest.mark.parametrize("seed", range(3))
def test_the_formula_image_by_image(seed):
    generator = np.random.default_rng(seed)
    decoder = generator.standard_normal((12, 6)) + 0.4
    activations = generator.exponential(size=(80, 12)) * (generator.random((80, 12)) < 0.35)
    probe, main = generator.standard_normal(6) + 1, np.array([1, 4])
    found = image_absorption(csr_array(activations), decoder, probe, main)
    want = [by_hand(row, decoder, probe, main) for row in activations]
    assert found.share.tolist() == pytest.approx([share for share, _ in want])
    assert found.full.tolist() == [bool(full) for _, full in want]
    assert 0 < found.full.sum() < 80
    assert found.carried[main].tolist() == [0, 0]


def test_a_linear_probe_is_the_optimal_one():
    """Two Gaussians with one covariance: the direction is `S^-1 (m_1 - m_0)`."""
    generator = np.random.default_rng(0)
    spread = np.array([[2.0, 0.0, 0.0], [1.5, 0.7, 0.0], [0.0, 0.3, 1.0]])
    labels = generator.integers(-1, 1, 40_000)
    difference = np.array([1.0, 0.0, -1.0])
    x = generator.standard_normal((40_000, 3)) @ spread.T + (labels == 0)[:, None] * difference
    found = linear_probes(x, labels, n_values=2)
    want = np.linalg.solve(spread @ spread.T, difference)
    want /= np.linalg.norm(want)
    assert found.directions[0] == pytest.approx(want, abs=0.02)
    assert found.biases[0] == pytest.approx(-want @ difference / 2, abs=0.02)
    assert np.isnan(found.directions[1]).all()
    assert np.isnan(found.biases[1])


def test_what_does_not_belong_together_is_refused():
    latents, decoder, x, bird, _ = planted(0.1)
    labels = bird.long() - 1
    with pytest.raises(ValueError, match="the decoder has 12 rows"):
        absorption(latents, decoder[:12], x, labels, 1)
    with pytest.raises(ValueError, match=r"got \(10, 24\)"):
        absorption(latents, decoder, x[:10], labels, 1)
    with pytest.raises(ValueError, match="main latents of 1 values are needed"):
        absorption(latents, decoder, x, labels, 1, main=[])


def test_a_value_in_two_families_is_refused():
    factors = {"class": (["sun", "snow"], torch.tensor([0, 1]))}
    with pytest.raises(ValueError, match="'sun' is in another family of class as well"):
        family_factors(factors, {"class": {"weather": ["sun", "snow"], "hot": ["sun"]}})
