"""Cues of a class on images that are imagined."""

import pytest
import torch

from lightning_sae.metrics import auroc

from .imagined import LIMITS, cues, seen


def wrong_images(rows):
    """Class 0 is predicted on images 0..4, of which 0 and 1 show it; 5..9 are predicted as class 1."""
    shows = [True, True, *[False] * 8]
    return seen([0] * 5 + [1] * 5, rows), shows


def random_rows(d_sae=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(10, d_sae, generator=generator)
    return torch.where(rows > 0.4, rows, 0.0).round(decimals=1)


def test_where_the_class_is_wrong_what_marks_the_errors_counts():
    rows = random_rows()
    images, shows = wrong_images(rows.tolist())
    found = cues(images, 0, shows)
    assert found.by_errors
    assert found.errors.nonzero().flatten().tolist() == [2, 3, 4]
    assert found.images == 5
    torch.testing.assert_close(found.attribution, rows[2:5].mean(0))
    torch.testing.assert_close(found.share, rows[2:5].mean(0) / rows[2:5].mean(0).sum())
    others = ~torch.tensor(shows)
    for j in (found.share >= LIMITS.share).nonzero().flatten().tolist():
        expected = auroc(rows[others, j], found.errors[others])
        assert found.marks[j] == pytest.approx(float(expected))
        weight = min(1.0, max(0.0, (float(expected) - 0.8) / 0.1))
        assert found.score[j] == pytest.approx(float(found.attribution[j]) * weight, abs=1e-6)


def test_negative_attribution_is_no_cue():
    drive = torch.zeros(10, 2)
    drive[2:5] = torch.tensor([2.0, -3.0])
    images = seen([0] * 5 + [1] * 5, drive.abs().tolist(), drive.tolist())
    found = cues(images, 0, [True, True, *[False] * 8])
    assert found.share.tolist() == [1.0, 0.0]
    assert found.score.tolist() == [2.0, 0.0]
    assert found.marks[0] == 1
    assert found.marks[1].isnan()


@pytest.mark.parametrize(("active", "weight"), [(10, 1.0), (8, 1.0), (7, 0.5), (6, 0.0), (5, 0.0)])
def test_the_score_fades_between_two_aurocs(active, weight):
    """A latent that fires on some of ten errors and nowhere else: its AUROC is (active + 10) / 20."""
    rows = [[float(i < active)] for i in range(20)]
    found = cues(seen([0] * 10 + [1] * 10, rows), 0, [False] * 20)
    assert found.marks[0] == pytest.approx((active + 10) / 20)
    assert found.score[0] == pytest.approx(weight * active / 10, abs=1e-5)


def test_a_share_that_is_too_small_is_no_cue():
    rows = torch.zeros(10, 2)
    rows[2:5] = torch.tensor([1.0, 0.004])
    images, shows = wrong_images(rows.tolist())
    assert (cues(images, 0, shows).score > 0).tolist() == [True, False]
    rows[2:5, 1] = 0.006
    images, shows = wrong_images(rows.tolist())
    assert (cues(images, 0, shows).score > 0).tolist() == [True, True]


def test_one_error_less_and_what_is_unexpected_counts_instead():
    rows = torch.zeros(10, 3)
    rows[:5] = torch.tensor([3.0, 1.0, 0.5])
    shows = [True, True, True, *[False] * 7]  # two errors
    images = seen([0] * 5 + [1] * 5, rows.tolist())
    found = cues(images, 0, shows, unexpected=[1, 2])
    assert not found.by_errors
    assert found.marks.isnan().all()
    torch.testing.assert_close(found.attribution, torch.tensor([3.0, 1.0, 0.5]))
    assert found.score.tolist() == [0.0, 0.0, 0.0]  # latent 1 has less than a quarter
    rows[:5, 1] = 2.0
    found = cues(seen([0] * 5 + [1] * 5, rows.tolist()), 0, shows, unexpected=[1, 2])
    assert found.score.tolist() == [0.0, 2.0, 0.0]


def test_a_class_that_is_never_predicted():
    images, _ = wrong_images(random_rows().tolist())
    found = cues(images, 2, [False] * 10, unexpected=range(6))
    assert (found.images, found.by_errors) == (0, False)
    assert found.attribution.eq(0).all()
    assert found.score.eq(0).all()


def test_every_other_image_is_an_error():
    """Then nothing tells the errors from what is no error."""
    images = seen([0] * 5, [[1.0], [1.0], [2.0], [1.0], [1.0]])
    found = cues(images, 0, [True, *[False] * 4])
    assert found.by_errors
    assert found.score.tolist() == [0.0]


def test_attribution_on_some_images_alone():
    """Errors are looked for among those; a latent is ranked on all images."""
    rows = random_rows()
    shows = torch.tensor([True, True, *[False] * 8])
    attributed = [0, 2, 3, 4, 7]
    images = seen([0] * 5 + [1] * 5, rows.tolist(), (2 * rows[attributed]).tolist(), attributed)
    found = cues(images, 0, shows)
    assert (found.images, found.by_errors) == (4, True)
    torch.testing.assert_close(found.attribution, 2 * rows[2:5].mean(0))
    fewer = seen([0] * 5 + [1] * 5, rows.tolist(), rows[[0, 2, 3]].tolist(), [0, 2, 3])
    assert not cues(fewer, 0, shows).by_errors
