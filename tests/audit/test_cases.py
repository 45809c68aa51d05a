"""Causes of a class's errors, and the latents that carry them."""

import math

import pytest
import torch

from lightning_sae.audit.verdict.cases import able, driven_images, leads, look_at, same_cause, suspects_of

from .imagined import LIMITS, judged, look, made, reading, seen, subjects

NAMES = ["sea lion", "lion", "dog"]
ERRORS = range(2, 12)


def zoo(*columns, drives=None):
    """Images 0, 1 show a sea lion and 2..11 a lion, all predicted as a sea lion; 12..21 show a dog."""
    shown = subjects(NAMES, [0] * 2 + [1] * 10 + [2] * 10)
    rows = torch.stack([torch.as_tensor(column, dtype=torch.float32) for column in columns], 1)
    return seen([0] * 12 + [2] * 10, rows.tolist(), None if drives is None else drives.tolist()), shown


def on(images, value=1.0):
    """Active on some images alone."""
    return torch.zeros(22).index_fill_(0, torch.tensor(list(images)), value)


def latents_of(found):
    return [(one.decided.kind, one.latents) for one in found]


def test_a_part_of_the_name():
    images, shown = zoo(on(ERRORS), on(range(12, 22)))
    case, cue, ranking = made(images, 0, shown, calls=[2] * 22)
    assert case.detects[:, 0].tolist() == pytest.approx([0.25, 1.0, 0.0833], abs=0.01)
    assert (case.thing_name, case.thing_share, case.thing_taken) == ("lion", 1.0, 1.0)
    assert case.errors_called == 0
    (found,) = suspects_of(case, cue, ranking, images)
    assert latents_of([found]) == [("compound", (0,))]
    assert found.scores == (1.0,)
    assert found.thing == shown.names.index("lion")


@pytest.mark.parametrize(("calls", "kind", "thing"), [(2, "compound", 1), (0, "spurious", -1)])
def test_the_judge_has_its_say(calls, kind, thing):
    images, shown = zoo(on(ERRORS))
    case, cue, ranking = made(images, 0, shown, calls=[calls] * 22)
    (found,) = suspects_of(case, cue, ranking, images)
    assert (found.decided.kind, found.thing) == (kind, thing)


def test_a_latent_that_reads_takes_those_of_the_same_images_along():
    """The second marks less of the errors, and joins the cause of the first."""
    images, shown = zoo(on(ERRORS, 2.0), on(list(ERRORS)[:7]))
    read = reading(2, auroc=1.0, attribution=1.0, predicted=1.0, predicted_p=0.0)
    case, cue, ranking = made(images, 0, shown, calls=[0] * 22, read=read)
    assert cue.marks.tolist() == pytest.approx([1.0, 0.85])
    (found,) = suspects_of(case, cue, ranking, images)
    assert latents_of([found]) == [("typographic", (0, 1))]
    assert found.scores[1] == pytest.approx(0.7 * 0.875 * (0.1 + 0.9 * 0.875), abs=1e-5)


def test_a_cause_is_of_the_first_kind_that_any_of_its_latents_passes():
    """The stronger latent does not detect the lion among all images, the weaker one does."""
    images, shown = zoo(on(ERRORS, 2.0), on(ERRORS))
    case, cue, ranking = made(images, 0, shown, calls=[2] * 22)
    case.detects[1, 0] = 0.85
    (found,) = suspects_of(case, cue, ranking, images)
    assert found.decided.kind == "compound"
    assert sorted(found.latents) == [0, 1]


def test_the_score_fades_with_the_detection_of_the_other_thing():
    images, shown = zoo(on(ERRORS), on(ERRORS) + on([0, 1, *range(12, 15)]) * 0.5)
    case, cue, ranking = made(images, 0, shown, calls=[2] * 22)
    case.detects[1, 1] = 0.85
    (found,) = suspects_of(case, cue, ranking, images)
    assert found.latents == (0, 1)
    assert found.scores[1] == pytest.approx(0.5 * float(ranking.score[1]), abs=1e-5)
    case.detects[1, 1] = 0.79
    assert latents_of(suspects_of(case, cue, ranking, images)) == [("compound", (0,))]


def test_no_suspect_where_no_test_is_passed():
    images, shown = zoo(on(ERRORS))
    case, cue, ranking = made(images, 0, shown, calls=[0] * 22)
    assert suspects_of(case, cue, ranking, images)
    looked = {j: one._replace(foreign=False) for j, one in case.looks.items()}
    assert suspects_of(case._replace(looks=looked), cue, ranking, images) == []


def test_no_latent_that_could_be_one():
    images, shown = zoo(on(range(12, 22)))
    case, cue, ranking = made(images, 0, shown, calls=[2] * 22)
    assert able(ranking, LIMITS) == leads(cue, ranking, LIMITS) == []
    assert case.looks == {}
    assert suspects_of(case, cue, ranking, images) == []


def test_what_marks_no_error_leads_no_cause():
    """Latent 1 drives the errors most, and 8 of 10 other images as well: its AUROC 0.6 can be chance."""
    everywhere = on(ERRORS, 3.0) + on(range(12, 20), 3.0)
    images, shown = zoo(on(ERRORS), everywhere, drives=torch.stack([on(ERRORS), 9 * on(ERRORS)], 1))
    cue, ranking = look(images, 0, shown)
    assert cue.marks.tolist() == pytest.approx([1.0, 0.6])
    assert able(ranking, LIMITS) == [1, 0]
    assert leads(cue, ranking, LIMITS) == [0]
    case, cue, ranking = made(images, 0, shown, calls=[2] * 22)
    assert list(case.looks) == [0]
    (found,) = suspects_of(case, cue, ranking, images)  # it joins the cause that the other leads
    assert (found.decided.kind, found.latents) == ("compound", (0,))  # but detects no lion
    alone, shown = zoo(everywhere, drives=9 * on(ERRORS)[:, None])
    assert suspects_of(*made(alone, 0, shown, calls=[2] * 22), alone) == []


def test_no_more_are_tried_than_allowed():
    images, shown = zoo(*(on(ERRORS, value) for value in (1.0, 3.0, 2.0)))
    _, ranking = look(images, 0, shown)
    assert able(ranking, LIMITS) == [1, 2, 0]
    assert able(ranking, LIMITS._replace(suspects=2)) == [1, 2]


def test_what_the_judge_says_of_the_wrong_predictions_that_a_latent_drives():
    """Thirty sea lions, 10 images that are taken for them: the judge calls half of these so."""
    shown = subjects(["sea lion", "dog"], [0] * 30 + [1] * 40)
    rows = torch.zeros(70, 2)
    rows[30:35, 0] = rows[35:40, 1] = 1.0
    images = seen([0] * 40 + [1] * 30, rows)
    cue, _ = look(images, 0, shown)
    judge = judged(70, 2, 2, [0] * 35 + [1] * 35)
    judge = judge._replace(shown=shown.shown)
    found = look_at(judge, images, cue, [0, 1])
    assert [found[j].errors_called for j in (0, 1)] == [1.0, 0.0]
    assert [found[j].errors_below for j in (0, 1)] == [False, True]
    assert found[1].errors_p_class == pytest.approx(1 / 31)
    assert (found[0].foreign, found[0].asked) == (True, True)
    assert look_at(judge, images, cue, []) == {}
    few, _ = look(images, 0, shown, limits=LIMITS._replace(min_errors=11))
    unknown = look_at(judge, images, few, [0])[0]
    assert math.isnan(unknown.errors_p_class)
    assert (unknown.errors_below, unknown.errors_called) == (False, 0.0)


def test_wrong_predictions_that_are_too_few_name_no_other_thing():
    limits = LIMITS._replace(min_errors=11)
    images, shown = zoo(on(range(12)))
    cue, ranking = look(images, 0, shown, unexpected=[0], limits=limits)
    assert (cue.by_errors, cue.thing) == (False, -1)
    assert ranking.score.tolist() == [1.0]
    case, *_ = made(images, 0, shown, calls=[2] * 22, limits=limits)
    assert (case.thing_name, case.thing_share) == ("", 0.0)
    assert judged(2, 1, 3, [2, 2]).meaning.foreign.all()


def test_latents_on_the_same_images_are_one_cause():
    halves = list(ERRORS)[:5], list(ERRORS)[5:]
    drives = torch.stack([on(halves[0], 3.0), on(halves[1], 2.0), on(ERRORS), on(halves[0], -1.0)], 1)
    drives[list(halves[1]), 3] = 0.5
    images, shown = zoo(*drives.T.abs(), drives=drives)
    cue, _ = look(images, 0, shown)
    assert same_cause(images, cue, [0, 1, 2]) == [[0, 2], [1]]
    assert same_cause(images, cue, [2, 0, 1]) == [[2, 0, 1]]
    assert same_cause(images, cue, [0, 3, 1]) == [[0], [3, 1]]


def test_the_images_that_it_drives_most():
    drive = torch.zeros(22, 1)
    drive[2:12, 0] = torch.tensor([1.0, 5.0, 3.0, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    drive[0] = 9.0  # no error
    images, shown = zoo(on(range(22)), drives=drive)
    cue, _ = look(images, 0, shown)
    assert driven_images(images, cue, 0, most=3) == [3, 4, 5]
    assert driven_images(images, cue, 0, most=8) == [3, 4, 5, 2]


@pytest.mark.parametrize(("c", "expected"), [(0, [1, 4, 3]), (2, [15, 12])])
def test_without_enough_wrong_predictions_all_images_predicted_as_the_class_are_driven(c, expected):
    drive = torch.zeros(22, 1)
    drive[[1, 3, 4, 12, 15], 0] = torch.tensor([9.0, 2.0, 5.0, 6.0, 20.0])
    images, shown = zoo(on(range(22)), drives=drive)
    cue, _ = look(images, c, shown, limits=LIMITS._replace(min_errors=11))
    assert driven_images(images, cue, 0, most=8) == expected


def test_the_images_are_named_by_their_ids():
    """Where only some images are attributed, their places are not their ids."""
    rows = on(ERRORS)[:, None]
    attributed = [1, 3, 5, 7, 20]
    images = seen([0] * 12 + [2] * 10, rows.tolist(), [[9.0], [1.0], [3.0], [2.0], [0.0]], attributed)
    cue, _ = look(images, 0, subjects(NAMES, [0] * 2 + [1] * 20))
    assert cue.by_errors
    assert driven_images(images, cue, 0, most=8) == [5, 7, 3]
