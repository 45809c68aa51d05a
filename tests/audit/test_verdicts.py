"""Suspects that are tried, in a world of four latents whose truth is known.

Latent 0 is class a, latent 1 a mark that drives class a, latent 2 class b, latent 3 drives nothing.
Of 60 images of class a 20 have the mark, of 120 others 40.
"""

import math

import pytest
import torch

from lightning_sae.audit.evidence.cues import Group
from lightning_sae.audit.evidence.gaps import find_gaps, raises
from lightning_sae.audit.evidence.removal import UNKNOWN, BootstrapEstimate
from lightning_sae.audit.verdict.verdicts import each_once, sample_of, try_suspects

from .imagined import linear_world, look, seen, subjects, suspect

OWN, OTHERS = 60, 120
WEIGHT = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])


def activity(marked_others=40, marked_own=20):
    generator = torch.Generator().manual_seed(0)
    a = torch.zeros(OWN + OTHERS, 4)
    a[:OWN, 0] = 0.6 + torch.rand(OWN, generator=generator)
    a[:marked_own, 1] = a[OWN : OWN + marked_others, 1] = 3.0
    a[OWN:, 2] = 2.0 + torch.rand(OTHERS, generator=generator)
    a[::2, 3] = 1.0
    return a


class World:
    """All that trying needs, with the cues of class a."""

    def __init__(self, a, bias=(0.0, 0.0), factors=None, subject=None, attributed=None):
        self.shown = subject or subjects(["a", "b"], [0] * OWN + [1] * OTHERS)
        ids = torch.arange(len(a)) if attributed is None else torch.tensor(attributed)
        weight = WEIGHT[:, : a.shape[1]]
        parts, self.scores = linear_world(a[ids], weight, bias, ids=ids)
        self.factors = factors or {}
        self.logits = a @ weight.T + torch.tensor(bias)
        self.seen = seen(self.logits.argmax(1), a, attributed=attributed, explained=parts)
        self.cue = self.cue_of()

    def cue_of(self, group=None):
        return look(self.seen, 0, self.shown, group=group)[0]

    def try_(self, *suspects, of_things=()):
        called = [frozenset(of_things)] * len(suspects)
        return try_suspects(self.scores, self.seen, self.shown, self.factors, suspects, called)


@pytest.fixture
def world():
    return World(activity())


def mark(a):
    return {"mark": (["no", "yes"], (a[:, 1] > 0).long())}


def test_the_mark_is_a_culprit(world):
    assert int(world.cue.errors.sum()) == 40
    (found,) = world.try_(suspect(world.cue, [1]))
    assert found.verdict == "culprit"
    assert not found.shown
    assert found.helpful.latents == found.culprits.latents == (1,)
    assert found.sample.others_with_cue() == 40
    assert found.taken.value == found.taken_by_helpful.value == 1.0
    assert found.net.low > 0


def test_where_the_class_is_hardly_told_without_the_mark_either_the_mark_is_no_culprit():
    """Half of the class looks like the others, so that its AUROC without the mark is 1/2 + 1/4."""
    a = activity()
    a[: OWN // 2, 0], a[: OWN // 2, 2] = 0.0, a[OWN : OWN + OWN // 2, 2]
    a[:OWN, 1] = 0.0
    world = World(a)
    (found,) = world.try_(suspect(world.cue, [1]))
    assert found.sure
    assert found.class_auroc == pytest.approx(0.75, abs=0.05)
    assert found.verdict == "cannot be told"
    assert found._replace(class_auroc=0.8).verdict == "culprit"
    (known,) = World(a, factors=mark(a)).try_(suspect(world.cue, [1]))
    assert known.class_auroc == found.class_auroc
    assert known.verdict == "culprit"


def test_a_latent_with_the_name_of_the_class_is_no_culprit_where_the_data_do_not_know_the_cue(world):
    (found,) = world.try_(suspect(world.cue, [1]), of_things=[1])
    assert found.sure
    assert found.verdict == "cannot be told"
    a = activity()
    (known,) = World(a, factors=mark(a)).try_(suspect(world.cue, [1]), of_things=[1])
    assert known.verdict == "culprit"
    (other,) = world.try_(suspect(world.cue, [1]), of_things=[0, 2, 3])
    assert other.verdict == "culprit"


def test_the_detector_of_the_class_is_a_part_of_it(world):
    """It never fires elsewhere: whether it is the class or a cue on all its images cannot be told."""
    (found,) = world.try_(suspect(world.cue, [0]))
    assert found.each[0].high < 0
    assert found.helpful.latents == ()
    assert found.verdict == "cannot be told"
    a = activity()
    a[-40:, 0] = 2.0  # a third of the others look a little like the class
    other = World(a)
    (found,) = other.try_(suspect(other.cue, [0]))
    assert (found.verdict, found.apart) == ("part of the class", True)


def test_what_the_latents_together_do_leaves_parts_of_the_class_out(world):
    (found,) = world.try_(suspect(world.cue, [0, 1]))
    assert found.helpful.latents == (1,)
    assert [net.high < 0 for net in found.each] == [True, False]
    assert found.verdict == "culprit"
    assert found.culprits.latents == (1,)


def test_where_cue_and_class_never_come_apart_nothing_can_be_told():
    world = World(activity(marked_others=0))
    (found,) = world.try_(suspect(world.cue, [1]))
    assert found.sample.others_with_cue() == 0
    assert not found.apart
    assert found.verdict == "cannot be told"
    assert math.isnan(found.taken.value)


def test_what_changes_nothing_cannot_be_told(world):
    (found,) = world.try_(suspect(world.cue, [3]))
    assert found.net == (0.0, 0.0, 0.0, 1.0)
    assert (found.verdict, found.apart, found.sure) == ("cannot be told", True, False)


def test_the_sides_are_those_of_the_data_where_they_know_them():
    a = activity()
    world = World(a, factors=mark(a))
    (found,) = world.try_(suspect(world.cue, [1]))
    assert found.sample.sides.name == "mark=yes"
    cells = found.sample.cells(10)
    assert [int(cell.sum()) for cell in (*cells.own, *cells.others)] == [20, 40, 40, 80]
    assert [len(kind) for kind in found.sample.cells(21)] == [1, 2]  # 20 images are too few for a part
    assert found.verdict == "culprit"


def one_latent(on_others):
    """A single latent, of class a and of what 40 other images have; class b is what is left."""
    a = torch.zeros(OWN + OTHERS, 1)
    a[:OWN, 0] = 2.0 + torch.rand(OWN, generator=torch.Generator().manual_seed(0))
    a[OWN : OWN + 40, 0] = on_others
    return a


def test_a_group_is_shown_though_removal_does_not_help():
    """One latent is both the class and the mark: without it the errors are gone, and the class as well."""
    a = one_latent(2.5)
    marked = (a[:, 0] > 0) & ((torch.arange(len(a)) >= OWN) | (torch.arange(len(a)) < 10))
    factors = {"mark": (["no", "yes"], marked.long())}
    world = World(a, bias=(0.0, 1.5), factors=factors)
    gaps = find_gaps(world.seen.predicted, world.shown.targets, 2, factors)
    (gap,) = [one for one in gaps if one.measure == "false_positives"]
    assert (gap.c, gap.name, gap.share, gap.elsewhere) == (0, "mark=yes", 1.0, 0.0)
    assert raises(marked, 0, world.logits, world.shown.targets)
    of_group = world.cue_of(Group("mark=yes", marked))
    grouped, plain = world.try_(suspect(of_group, [0]), suspect(world.cue, [0]))
    assert grouped.each[0].high < 0
    assert (grouped.shown, grouped.verdict) == (True, "culprit")
    assert grouped.culprits.latents == (0,)
    assert (grouped.taken.value, grouped.taken.low) == (1.0, 1.0)
    assert (plain.shown, plain.verdict) == (False, "part of the class")


@pytest.mark.parametrize(("marks", "culprits"), [(0.89, (1,)), (0.9, (0, 1))])
def test_a_detector_of_a_known_group_is_a_culprit_though_the_class_needs_it(marks, culprits):
    a = activity()
    world = World(a, factors=mark(a))
    cue = world.cue_of(Group("mark=yes", a[:, 1] > 0))
    (found,) = world.try_(suspect(cue._replace(marks=torch.tensor([marks, 1.0, 0.0, 0.0])), [0, 1]))
    assert found.each[0].high < 0 < found.each[1].low
    assert found.helpful.latents == (1,)
    assert found.culprits.latents == culprits
    plain = found._replace(suspect=found.suspect._replace(cue=found.suspect.cue._replace(group=None)))
    assert plain.culprits.latents == (1,)


def test_of_equals_the_one_whose_group_is_known_comes_first():
    a = activity()
    world = World(a, factors=mark(a))
    of_group = world.cue_of(Group("mark=yes", a[:, 1] > 0))
    plain, grouped = world.try_(suspect(world.cue, [1]), suspect(of_group, [1]))
    assert plain.taken.value == grouped.taken.value == 1.0
    assert each_once([plain, grouped]) == each_once([grouped, plain]) == [grouped]


@pytest.mark.parametrize(("taken", "verdict"), [(1.0, "culprit"), (0.25, "part of the class")])
def test_one_other_thing_is_shown_where_most_of_its_images_are_taken(taken, verdict):
    """One latent is both class a and the thing c, of which `taken` of 40 images are predicted as a."""
    a = one_latent(torch.where(torch.arange(40) < 40 * taken, 4.0, 1.0))
    subject = subjects(["a", "b", "c"], [0] * OWN + [2] * 40 + [1] * 80, of_class=[0, 1])
    world = World(a, bias=(0.0, 1.5), subject=subject)
    assert (world.cue.thing, world.cue.thing_taken) == (2, pytest.approx(taken))
    (found,) = world.try_(suspect(world.cue, [0], "polysemous"))
    assert found.suspect.thing == 2
    assert found.sample.sides.name == '"c"'
    assert found.each[0].high < 0
    assert (found.shown, found.verdict) == (taken >= 0.5, verdict)
    assert found.culprits.latents == (0,)


def test_only_some_images_are_attributed():
    """Every second image: activity, classes and cues are those of these images."""
    a = activity()
    attributed = list(range(0, len(a), 2))
    world = World(a, factors=mark(a), attributed=attributed)
    (found,) = world.try_(suspect(world.cue, [1]))
    assert len(found.sample.own) == 90
    assert torch.equal(found.sample.own, torch.tensor(attributed) < OWN)
    assert torch.equal(found.sample.sides.cue, a[attributed, 1] > 0)
    assert found.verdict == "culprit"


def test_images_without_a_known_class_are_others_of_which_accuracy_says_nothing():
    known = torch.arange(OWN + OTHERS) % 2 == 0
    shown = subjects(["a", "b"], [0] * OWN + [1] * OTHERS)._replace(known=known)
    world = World(activity(), subject=shown)
    sample = sample_of(world.seen, shown, {}, suspect(world.cue, [1]), 10)
    assert torch.equal(sample.known, known)
    assert int(sample.own.sum()) == OWN


def test_no_suspects_at_all(world):
    assert world.try_() == []
    assert each_once([]) == []


def taken_by(tried, value):
    share = UNKNOWN if math.isnan(value) else BootstrapEstimate(value, value / 2, value, 0.001)
    return tried._replace(taken=share)


def test_every_latent_is_judged_once(world):
    """A culprit has its latents first, the one that makes most false positives before the others."""
    cue = world.cue
    culprit, part = world.try_(suspect(cue, [1]), suspect(cue, [0]))
    both = suspect(cue, [1, 3])
    second = taken_by(culprit._replace(suspect=both, helpful=both, each=culprit.each * 2), 0.5)
    found = each_once([part, second, culprit])
    assert [one.suspect.latents for one in found] == [(1,), (3,), (0,)]
    assert [one.verdict for one in found] == ["culprit", "culprit", "cannot be told"]
    assert [len(one.each) for one in found] == [1, 1, 1]
    untold = part._replace(suspect=suspect(cue, [1, 0]), each=part.each * 2)
    assert [one.suspect.latents for one in each_once([untold, culprit])] == [(1,), (0,)]
    assert each_once([untold.only([1]), culprit]) == [culprit]
    other = culprit._replace(suspect=suspect(cue._replace(c=1), [1]))
    assert len(each_once([culprit, other])) == 2  # of another class


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_what_takes_no_image_that_is_there_comes_last(world, order):
    cue = world.cue
    (culprit,) = world.try_(suspect(cue, [1]))
    many = [
        taken_by(culprit._replace(suspect=suspect(cue, [j]), helpful=suspect(cue, [j])), value)
        for j, value in [(1, 0.9), (2, float("nan")), (3, 0.4)]
    ]
    assert [one.suspect.latents for one in each_once([many[i] for i in order])] == [(1,), (3,), (2,)]
