"""Where a cue is, by a known factor or by the activity of latents."""

import pytest
import torch

from lightning_sae.audit.verdict.sides import as_on_the_class, find_sides, reached, told_value

N = 100
NONE = torch.zeros(N, dtype=torch.bool)
ALL = ~NONE


def factor(truth, name="mark"):
    return {name: (["no", "yes"], truth.long())}


def first(n):
    return torch.arange(N) < n


def test_a_value_that_is_told_with_an_auroc_of_nine_tenths_is_the_cue():
    """Of 50 images with the mark `n` are active: the AUROC is (n + 50) / 100."""
    marked = factor(first(50))
    assert find_sides(first(39).float(), ALL, NONE, marked, 10).name == ""
    assert find_sides(first(40).float(), ALL, NONE, marked, 10).name == "mark=yes"
    found = find_sides(first(45).float(), ALL, NONE, marked, 10)
    assert torch.equal(found.cue, first(50))
    assert torch.equal(found.divides, first(50))
    assert found.known


def test_the_best_of_several_values():
    factors = factor(first(50), "near") | factor(first(45), "exact") | factor(first(48), "class")
    assert find_sides(first(45).float(), ALL, NONE, factors, 10).name == "exact=yes"
    only_class = find_sides(first(45).float(), ALL, NONE, factor(first(45), "class"), 10)
    assert not only_class.known


def test_only_images_without_the_class_tell_the_cue():
    """On images of the class everything is active, marked or not."""
    own = first(30)
    mark = (torch.arange(N) % 2).bool()
    active = (own | mark).float()
    assert find_sides(active, ~own, NONE, factor(mark), 10).name == "mark=yes"
    assert find_sides(active, ALL, NONE, factor(mark), 10).name == ""


@pytest.mark.parametrize(("size", "known"), [(9, False), (10, True), (90, True), (91, False)])
def test_both_sides_have_images(size, known):
    assert find_sides(first(size).float(), ALL, NONE, factor(first(size)), 10).known == known


def test_images_without_a_value_have_no_cue():
    truth = torch.where(first(40), 1, -1)
    found = find_sides(first(40).float(), ALL, NONE, {"mark": (["no", "yes"], truth)}, 10)
    assert torch.equal(found.cue, first(40))


def test_without_a_factor_the_activity_on_errors_is_the_cue():
    activity = torch.arange(N).float()
    errors = torch.zeros(N, dtype=torch.bool)
    errors[[40, 60, 80, 90, 99]] = True
    found = find_sides(activity, ALL, errors, {}, 10)
    assert (found.name, found.known) == ("", False)
    assert found.cue.nonzero().flatten().tolist() == list(range(60, 100))  # as much as 4 of 5
    assert found.divides.nonzero().flatten().tolist() == list(range(1, 100))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 50])
def test_three_of_four_images_reach_it(n):
    images = first(n)
    activity = torch.rand(N, generator=torch.Generator().manual_seed(n)) + 0.1
    share = float(reached(activity, images)[images].float().mean())
    assert 0.75 - 1 / n <= share <= 1
    least = activity[reached(activity, images)].min()
    assert float((activity[images] >= least).float().mean()) <= 0.75 + 1 / n


def test_what_is_silent_reaches_nothing():
    activity = first(10).float()
    assert torch.equal(reached(activity, ~first(10)), first(10))  # silent there: any activity counts
    assert torch.equal(reached(activity, NONE), first(10))
    assert not reached(torch.zeros(N), ALL).any()


def test_how_many_others_are_as_active_as_the_class():
    own = first(20)
    activity = torch.where(own, 2.0, 0.0)
    assert as_on_the_class(activity, own, ~own) == 0
    activity[20:27], activity[27:40] = 3.0, 1.9
    assert as_on_the_class(activity, own, ~own) == 7
    assert as_on_the_class(activity, NONE, ALL) == 0  # a class without images is told from nothing


def test_the_value_that_latents_tell():
    truth, other = torch.tensor([0, 1] * 50), torch.tensor([0, 0, 1, 1] * 25)
    factors = {"other": (["x", "y"], other), "told": (["p", "q"], truth)}
    activity, everything = truth * (0.5 + torch.rand(100)), torch.ones(100, dtype=torch.bool)
    assert told_value(activity, everything, factors, 10) == ("told", "q", 1)
    assert told_value(activity, ~everything, factors, 10) is None  # all images are of the class
    assert told_value(torch.rand(100), everything, factors, 10) is None
    assert told_value(activity, everything, {}, 10) is None
