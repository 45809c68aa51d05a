"""What ablation does, and the harm that it shows."""

import math

import pytest
import torch

from lightning_sae.audit.findings import Change
from lightning_sae.audit.verdict.margins import Margins
from lightning_sae.audit.verdict.severity import harm_of, measure
from lightning_sae.audit.verdict.sides import Sides
from lightning_sae.audit.verdict.verdicts import Sample

from .imagined import linear_world, look, seen, subjects, suspect


@pytest.fixture
def measured():
    """Six images, latent 1 being the cue of class a; classes a and b, and a thing that is none."""
    x = torch.tensor([[1.0, 3, 0], [4, 0, 0], [0, 3, 2], [0, 3, 2], [0, 0, 3], [0, 1, 3]])
    weight = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    grounds = (["red", "blue"], torch.tensor([0, 1, 0, 1, 1, 1]))
    parts, scores = linear_world(x, weight)
    shown = subjects(["a", "b", "other"], [0, 0, 1, 2, 1, 1], of_class=[0, 1])
    images = seen((x @ weight.T).argmax(1), x, explained=parts)
    cue, _ = look(images, 0, shown)

    def measured(latents, min_group=1):
        (only,) = measure(scores, images, shown, {"background": grounds}, [suspect(cue, latents)], min_group)
        return only

    return measured


def test_what_the_classifier_does_not_know_is_a_false_positive(measured):
    effect = measured((1,)).effect
    # predicted as a: images 0, 1 (right), 2 (b) and 3 (other); without latent 1 only 0 and 1
    assert effect.false_positives == Change(images=4, as_it_is=0.5, without=0.0)
    assert effect.accuracy == Change(images=2, as_it_is=1.0, without=1.0)


def test_the_cue_is_where_the_latent_is_as_active_as_on_errors(measured):
    """On images 0, 2 and 3; no value of a factor is told by it."""
    effect, harm = measured((1,))
    assert effect.cue == ""
    assert effect.cue_false_positives == Change(images=2, as_it_is=1.0, without=0.0)
    assert effect.cue_accuracy == Change(images=1, as_it_is=1.0, without=1.0)
    assert effect.plain_accuracy == Change(images=1, as_it_is=1.0, without=1.0)
    assert harm.of == "other images with the culprits as active as on its errors that are taken for it"
    assert (harm.share.value, harm.share.low) == (1.0, 1.0)


def test_the_worst_group_is_the_worst_one_as_it_is(measured):
    effect = measured((0,)).effect
    # without latent 0 image 0 (red) is still a, image 1 (blue) is nothing at all: both are right as it is
    assert effect.worst_group.group in ("background=red", "background=blue")
    assert effect.worst_group.as_it_is == 1.0
    assert measured((1,), min_group=2).effect.worst_group is None


def test_what_ablation_costs_the_class_is_no_harm(measured):
    """Without latent 0 image 1 is lost: the latent is a part of the class, and drives no error."""
    effect, harm = measured((0,))
    assert effect.accuracy == Change(images=2, as_it_is=1.0, without=0.5)
    assert harm.share.value == harm.share.low == harm.share.high == 0.0


def test_nothing_to_remove():
    _, scores = linear_world([[1.0]], [[1.0]])
    assert measure(scores, seen([0], [[1.0]]), subjects(["a"], [0]), {}, []) == []


def sample(own, cue, name="mark=yes"):
    own, cue = torch.tensor(own), torch.tensor(cue)
    return Sample(own, Sides(name, cue, cue), torch.ones_like(own))


def test_harm_is_what_the_cue_takes_or_what_it_misses():
    """Of 4 others with the mark 2 are taken; of 4 images of the class without it all are missed, or none."""
    own, cue = [True] * 8 + [False] * 8, ([True] * 4 + [False] * 4) * 2
    before = torch.tensor([3.0] * 4 + [-1.0] * 4 + [1.0, 1.0, -2.0, -2.0] + [-2.0] * 4)
    after = torch.tensor([0.9] * 4 + [0.9] * 4 + [-2.0] * 8)
    harm = harm_of(Margins(before, after), sample(own, cue), min_group=4)
    assert harm.of == "other images with mark=yes that are taken for it"
    assert harm.share.value == 0.5  # at the best threshold, -2, the images of the class are found as it is
    worse = before.clone()
    worse[4:8] = -3.0  # now others are above them: half is taken, or half missed
    harm = harm_of(Margins(worse, after), sample(own, cue), min_group=4)
    assert (harm.of, harm.share.value) == ("its images without mark=yes that are missed", 1.0)
    unknown = harm_of(Margins(worse, after), sample(own, cue, name=""), min_group=4)
    assert unknown.of == "other images with the culprits as active as on its errors that are taken for it"


def test_misses_count_where_no_other_image_has_the_cue():
    own, cue = [True] * 8 + [False] * 8, [True] * 4 + [False] * 12
    before = torch.tensor([3.0] * 4 + [-3.0] * 4 + [-2.0] * 8)
    after = torch.tensor([1.0] * 8 + [-2.0] * 8)
    harm = harm_of(Margins(before, after), sample(own, cue), min_group=4)
    assert (harm.of, harm.share.value) == ("its images without mark=yes that are missed", 1.0)


def test_without_any_image_that_it_could_happen_to_there_is_no_harm():
    harm = harm_of(Margins(torch.ones(4), torch.ones(4)), sample([True] * 4, [True] * 4), min_group=2)
    assert harm.share == (0.0, 0.0, 0.0, 1.0)
    assert not math.isnan(harm.share.value)


def test_a_removal_that_makes_it_worse_is_no_harm():
    own, cue = [False] * 8, [True] * 8
    harm = harm_of(Margins(-torch.ones(8), torch.ones(8)), sample(own, cue), min_group=2)
    assert harm.share.value == -1.0
    assert harm.share.high == -1.0
