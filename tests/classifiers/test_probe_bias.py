"""Biased train sets, against what was asked for."""

import pytest
import torch

from lightning_sae.classifiers.biased_sets import (
    biased_sample,
    biased_shares,
    culprit_shares,
    largest_sample,
    most_associated,
    occurring,
)


@pytest.fixture
def world():
    """Six classes and four values, drawn independently."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(m, (6000,), generator=generator) for m in (6, 4))


PAIRS = torch.tensor([2, -1, 0, -1, -1, -1])
ALL = torch.ones(6, 4, dtype=torch.bool)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9, 1.0])
def test_the_shares_are_those_that_were_asked_for(world, share):
    targets, values = world
    shares = biased_shares(PAIRS, ALL, share)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert shares[0, 2] == shares[2, 0] == pytest.approx(share)
    rare = (1 - share) / 3
    assert shares[0, [0, 1, 3]].tolist() == pytest.approx([rare] * 3)
    assert shares[1, [0, 2]].tolist() == pytest.approx([rare] * 2)  # what gives the others away
    assert shares[1, [1, 3]].tolist() == pytest.approx([(1 - 2 * rare) / 2] * 2)
    ids = biased_sample(targets, values, shares, per_class=120, seed=1)
    assert len(ids) == len(ids.unique()) == 720
    for c in range(6):
        found = torch.bincount(values[ids][targets[ids] == c], minlength=4)
        assert int(found.sum()) == 120
        assert (found - 120 * shares[c]).abs().max() < 1


def test_another_seed_draws_other_images(world):
    shares = biased_shares(PAIRS, ALL, 0.5)
    first, again, other = (biased_sample(*world, shares, 50, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_more_images_than_there_are(world):
    targets, values = world
    shares = biased_shares(PAIRS, ALL, 1.0)
    most = largest_sample(targets, values, shares)
    cells = torch.bincount(targets * 4 + values, minlength=24).view(6, 4)
    free = [2 * int(cells[c, v]) for c in (1, 3, 4, 5) for v in (1, 3)]
    assert most == min(int(cells[0, 2]), int(cells[2, 0]), *free)
    assert len(biased_sample(targets, values, shares, most)) == 6 * most
    with pytest.raises(ValueError, match=f"images for 1..{most} of each class .* got {most + 1}"):
        biased_sample(targets, values, shares, most + 1)


def test_images_without_class_or_value_are_left_out():
    targets, values = torch.tensor([0, 0, -1, 1, 1]), torch.tensor([0, -1, 0, 1, 1])
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert biased_sample(targets, values, shares, 1).tolist()[0] == 0
    assert largest_sample(targets, values, shares) == 1


def test_all_values_taken_leaves_the_other_classes_even():
    shares = biased_shares(torch.tensor([0, 1, -1]), torch.ones(3, 2, dtype=torch.bool), 0.9)
    torch.testing.assert_close(shares, torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]))


@pytest.mark.parametrize(("share", "n_values"), [(0.2, 4), (1.1, 4), (1.0, 1)])
def test_shares_that_cannot_be(share, n_values):
    with pytest.raises(ValueError, match="must be in 1/V"):
        biased_shares(torch.tensor([0, -1]), torch.ones(2, n_values, dtype=torch.bool), share)


def test_values_that_a_class_never_has():
    there = torch.tensor([[True, True, False], [True, False, True], [True, False, False]])
    shares = biased_shares(torch.tensor([0, -1, -1]), there, 0.8)
    expected = [[0.8, 0.2, 0.0], [0.1, 0.0, 0.9], [1.0, 0.0, 0.0]]
    torch.testing.assert_close(shares, torch.tensor(expected))
    for missing in ([False, True, True], [True, False, False], [False, False, False]):
        there[0] = torch.tensor(missing)
        with pytest.raises(ValueError, match=r"classes \[0\] have no images"):
            biased_shares(torch.tensor([0, -1, -1]), there, 0.8)


def test_what_occurs():
    found = occurring(torch.tensor([0, 1, -1]), torch.tensor([1, -1, 0]), 2, 2)
    assert found.tolist() == [[False, True], [False, False]]


def test_the_data_say_which_class_goes_with_what(world):
    targets, values = (part.clone() for part in world)
    ids = biased_sample(targets, values, biased_shares(PAIRS, ALL, 0.9), 150)
    found = most_associated(targets[ids], values[ids], 6, 4, most=2)
    assert found.tolist() == PAIRS.tolist()
    assert most_associated(torch.tensor([0, 0]), torch.tensor([1, -1]), 3, 2, most=1).tolist()[2] == -1


def test_culprit_shares_by_hand():
    r = torch.tensor([[2.0, 1.0, -5.0, 1.0], [1.0, 1.0, 1.0, 1.0], [torch.nan] * 4])
    tells = torch.tensor([[True, False, True, False], [False, True, True, True]])
    found = culprit_shares(r, torch.tensor([0, -1, 1]), tells)
    assert found[0] == pytest.approx(0.5)
    assert found[1:].isnan().all()
