"""Cues of a class, and by what its latents are ranked, on images that are imagined."""

import pytest
import torch

from lightning_sae.audit.evidence.cues import Group
from lightning_sae.concepts.significance import least_auroc
from lightning_sae.metrics import auroc

from .imagined import LIMITS, apart, look, seen, subjects


def wrong_images(rows):
    """Class 0 is predicted on images 0..4, of which 0 and 1 show it; 5..9 are predicted as class 1."""
    return seen([0] * 5 + [1] * 5, rows), apart([True, True, *[False] * 8])


def random_rows(d_sae=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(10, d_sae, generator=generator)
    return torch.where(rows > 0.4, rows, 0.0).round(decimals=1)


def between(value, low, high):
    return min(1.0, max(0.0, (value - low) / (high - low)))


def test_where_the_class_is_wrong_what_marks_the_errors_counts():
    rows = random_rows()
    images, shown = wrong_images(rows.tolist())
    cue, ranking = look(images, 0, shown)
    assert cue.by_errors
    assert cue.errors.nonzero().flatten().tolist() == [2, 3, 4]
    assert (cue.images, cue.thing, cue.thing_share) == (5, -1, 0.0)
    torch.testing.assert_close(cue.attribution, rows[2:5].mean(0))
    torch.testing.assert_close(ranking.share, rows[2:5].mean(0) / rows[2:5].mean(0).sum())
    for j in (ranking.share >= LIMITS.share).nonzero().flatten().tolist():
        marks = float(auroc(rows[2:, j], cue.errors[2:]))
        foreign = float(auroc(rows[:5, j], cue.errors[:5]))
        assert cue.marks[j] == pytest.approx(marks)
        assert cue.foreign[j] == pytest.approx(foreign)
        weight = between(marks, 0.5, 0.9) * (0.1 + 0.9 * between(foreign, 0.5, 0.9))
        assert ranking.score[j] == pytest.approx(float(cue.attribution[j]) * weight, abs=1e-6)


def test_negative_attribution_is_no_cue():
    drive = torch.zeros(10, 2)
    drive[2:5] = torch.tensor([2.0, -3.0])
    images = seen([0] * 5 + [1] * 5, drive.abs().tolist(), drive.tolist())
    cue, ranking = look(images, 0, apart([True, True, *[False] * 8]))
    assert ranking.share.tolist() == [1.0, 0.0]
    assert ranking.score.tolist() == [2.0, 0.0]
    assert cue.marks[0] == 1
    assert cue.marks[1].isnan()


@pytest.mark.parametrize(("active", "weight"), [(10, 1.0), (8, 1.0), (7, 0.875), (4, 0.5), (1, 0.125)])
def test_the_score_rises_from_chance_to_detection(active, weight):
    """A latent that fires on some of ten errors and nowhere else: its AUROC is (active + 10) / 20."""
    rows = [[float(i < active)] for i in range(20)]
    cue, ranking = look(seen([0] * 10 + [1] * 10, rows), 0, apart([False] * 20))
    assert cue.marks[0] == pytest.approx((active + 10) / 20)
    assert ranking.score[0] == pytest.approx(weight * active / 10, abs=1e-5)
    assert cue.marked[0] == (cue.marks[0] > least_auroc(10, 10))


def test_what_is_more_active_elsewhere_is_no_cue():
    rows = [[1.0]] * 10 + [[2.0]] * 10
    cue, ranking = look(seen([0] * 10 + [1] * 10, rows), 0, apart([False] * 20))
    assert cue.marks[0] == 0
    assert ranking.score.tolist() == [0.0]
    assert not cue.marked[0]


@pytest.mark.parametrize(("m", "n"), [(10, 10), (30, 200), (5, 400)])
def test_an_auroc_that_chance_reaches_in_one_of_a_hundred(m, n):
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(20_000, m + n, generator=generator).argsort(1).argsort(1)[:, :m]
    aurocs = (draws.sum(1).double() - m * (m - 1) / 2) / (m * n)
    assert float((aurocs > least_auroc(m, n)).double().mean()) == pytest.approx(0.01, abs=0.004)


def test_nothing_is_told_from_nothing():
    assert least_auroc(0, 10) == least_auroc(10, 0) == 1.0
    assert least_auroc(1, 1) == 1.0


@pytest.mark.parametrize(("own", "weight"), [(0, 1.0), (2, 1.0), (4, 0.775), (8, 0.325), (10, 0.1)])
def test_a_latent_that_the_class_shares_counts_less(own, weight):
    """It fires on ten errors and on some of ten images of the class: AUROC 1 - own / 20 between them."""
    rows = [[1.0]] * 10 + [[float(i < own)] for i in range(10)] + [[0.0]] * 10
    images = seen([0] * 20 + [1] * 10, rows)
    cue, ranking = look(images, 0, apart([False] * 10 + [True] * 10 + [False] * 10))
    assert cue.foreign[0] == pytest.approx(1 - own / 20)
    assert ranking.score[0] == pytest.approx(weight, abs=1e-5)


def test_what_detects_the_other_thing_counts_by_all_its_images():
    """Half of the thing's images are errors; one latent detects all of them, the other the errors alone."""
    shown = subjects(["class", "thing", "rest"], [1] * 10 + [2] * 10)
    rows = torch.zeros(20, 2)
    rows[:10, 0], rows[:5, 1] = 1.0, 1.0
    images = seen([0] * 5 + [2] * 15, rows.tolist(), (2 * rows).tolist())
    cue, ranking = look(images, 0, shown, on_thing=torch.tensor([0.5, 7.0]))
    assert (cue.thing, cue.thing_share) == (1, 1.0)
    assert ranking.attribution.tolist() == [0.5, 2.0]  # the second has an AUROC of 0.75 for the thing
    assert ranking.share.tolist() == pytest.approx([0.5 / 7.5, 0.5])


def test_a_share_that_is_too_small_is_no_cue():
    rows = torch.zeros(10, 2)
    rows[2:5] = torch.tensor([1.0, 0.004])
    images, shown = wrong_images(rows.tolist())
    assert (look(images, 0, shown)[1].score > 0).tolist() == [True, False]
    rows[2:5, 1] = 0.006
    images, shown = wrong_images(rows.tolist())
    assert (look(images, 0, shown)[1].score > 0).tolist() == [True, True]


def test_one_error_less_and_what_is_unexpected_counts_instead():
    rows = torch.zeros(10, 3)
    rows[:5] = torch.tensor([3.0, 1.0, 0.5])
    shown = apart([True, True, True, *[False] * 7])  # two errors
    images = seen([0] * 5 + [1] * 5, rows.tolist())
    cue, ranking = look(images, 0, shown, unexpected=[1, 2])
    assert not cue.by_errors
    assert cue.marks.isnan().all()
    torch.testing.assert_close(ranking.attribution, torch.tensor([3.0, 1.0, 0.5]))
    assert ranking.score.tolist() == [0.0, 0.0, 0.0]  # latent 1 has less than a quarter
    rows[:5, 1] = 2.0
    _, ranking = look(seen([0] * 5 + [1] * 5, rows.tolist()), 0, shown, unexpected=[1, 2])
    assert ranking.score.tolist() == [0.0, 2.0, 0.0]


def test_a_class_that_is_never_predicted():
    images, shown = wrong_images(random_rows().tolist())
    cue, ranking = look(images, 2, shown, unexpected=range(6))
    assert (cue.images, cue.by_errors) == (0, False)
    assert ranking.attribution.eq(0).all()
    assert ranking.score.eq(0).all()


def test_every_other_image_is_an_error():
    """Then nothing tells the errors from what is no error."""
    images = seen([0] * 5, [[1.0], [1.0], [2.0], [1.0], [1.0]])
    cue, ranking = look(images, 0, apart([True, *[False] * 4]))
    assert cue.by_errors
    assert ranking.score.tolist() == [0.0]


def test_attribution_on_some_images_alone():
    """Errors are looked for among those; a latent is ranked on all images."""
    rows, shown = random_rows(), apart([True, True, *[False] * 8])
    attributed = [0, 2, 3, 4, 7]
    images = seen([0] * 5 + [1] * 5, rows.tolist(), (2 * rows[attributed]).tolist(), attributed)
    cue, _ = look(images, 0, shown)
    assert (cue.images, cue.by_errors) == (4, True)
    torch.testing.assert_close(cue.attribution, 2 * rows[2:5].mean(0))
    fewer = seen([0] * 5 + [1] * 5, rows.tolist(), rows[[0, 2, 3]].tolist(), [0, 2, 3])
    assert not look(fewer, 0, shown)[0].by_errors


def test_in_a_group_its_own_wrong_predictions_count_however_few():
    """Two errors have the mark, and 8 of 16 other images; the latent is told from all of these."""
    rows = torch.zeros(20, 2)
    rows[[2, 3, *range(5, 11)], 0] = 1.0
    rows[4, 1] = 5.0
    images, shown = seen([0] * 5 + [1] * 15, rows), apart([True, True, *[False] * 18])
    mark = Group("mark=yes", torch.tensor([i in (0, 2, 3, *range(5, 11)) for i in range(20)]))
    cue, ranking = look(images, 0, shown, group=mark, limits=LIMITS._replace(min_errors=10))
    assert (cue.group, cue.by_errors, cue.images) == (mark, True, 5)
    assert cue.errors.nonzero().flatten().tolist() == [2, 3]
    assert cue.attribution.tolist() == [1.0, 0.0]
    assert cue.marks[0] == 1
    assert cue.marks[1].isnan()
    assert cue.marked.tolist() == [True, False]
    assert ranking.score.tolist() == [1.0, 0.0]
    no_error = Group("mark=no", torch.tensor([i > 10 for i in range(20)]))
    assert not look(images, 0, shown, group=no_error)[0].by_errors


def test_a_class_that_the_data_do_not_have():
    """Every image that is predicted as it is wrong; nothing is known of its own."""
    rows = torch.zeros(10, 1)
    rows[:5] = 2.0
    images = seen([0] * 5 + [1] * 5, rows)
    cue, ranking = look(images, 0, subjects(["a", "b"], [0] * 5 + [1] * 5, of_class=[-1, 1]))
    assert cue.errors.tolist() == [True] * 5 + [False] * 5
    assert (cue.thing, cue.thing_share, cue.thing_taken) == (0, 1.0, 1.0)
    assert cue.foreign[0].isnan()
    assert ranking.score.tolist() == [2.0]


def test_of_two_classes_the_errors_show_the_other_one():
    rows = torch.zeros(20, 2)
    rows[:10, 0], rows[10:, 1], rows[16:, 0] = 1.0, 1.0, 1.0
    shown = subjects(["a", "b"], [0] * 10 + [1] * 10)
    cue, _ = look(seen([0] * 10 + [1] * 6 + [0] * 4, rows), 0, shown)
    assert (cue.thing, cue.thing_share, cue.thing_taken) == (1, 1.0, pytest.approx(0.4))
