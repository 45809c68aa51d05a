"""Classes of which the data do not tell what drives them."""

from types import SimpleNamespace

import pytest
import torch

from lightning_sae.audit.evidence.cues import Limits
from lightning_sae.audit.evidence.removal import UNKNOWN
from lightning_sae.audit.examination import Options, Studied
from lightning_sae.audit.untold import main_drivers, suspects_left, untold

from .imagined import seen, subjects, suspect

OPTIONS = Options()


def share(low):
    return UNKNOWN._replace(value=low + 0.1, low=low, high=1.0)


def tried(latents, verdict, helpful=(), by_helpful=0.0, taken=0.0, class_auroc=0.9):
    return SimpleNamespace(
        suspect=suspect(None, latents),
        helpful=suspect(None, list(helpful)),
        taken=share(taken),
        taken_by_helpful=share(by_helpful),
        verdict=verdict,
        class_auroc=class_auroc,
        class_known=class_auroc >= 0.8,
    )


def studied(*tried):
    return Studied(0, "a", [], [], [], list(tried))


def test_the_fewest_latents_with_half_of_the_attribution():
    assert main_drivers(torch.tensor([1.0, 6.0, -9.0, 2.0])).tolist() == [1]
    assert main_drivers(torch.tensor([1.0, 2.0, 3.0, 1.0])).tolist() == [2, 1]
    assert main_drivers(torch.tensor([-1.0, 0.0])).tolist() == []


def test_suspects_are_left_that_drive_much_and_do_not_mean_it():
    attribution, some = torch.tensor([5.0, 4.0, 0.5, 4.0]), found(torch.zeros(40, 4), foreign=[0, 1, 2])
    of_class = studied(
        tried([0, 2], "cannot be told"), tried([3, 1, 0], "cannot be told"), tried([1], "part of the class")
    )
    assert suspects_left(some, of_class, attribution, Limits()) == (0, 1)
    assert suspects_left(some, of_class, attribution, Limits(unexpected_share=0.35)) == (0,)
    assert suspects_left(some, studied(tried([0], "culprit")), attribution, Limits()) == ()
    assert suspects_left(some, studied(), attribution, Limits()) == ()


@pytest.mark.parametrize(("taken", "left"), [(0.02, (1, 2)), (0.019, ()), (float("nan"), ())])
def test_suspects_are_left_that_make_false_positives(taken, left):
    of_class = studied(tried([0, 1, 2], "cannot be told", [1, 2], taken), tried([0], "culprit", [0], 0.5))
    assert suspects_left(found(torch.zeros(40, 3)), of_class, torch.ones(3), Limits()) == left


@pytest.mark.parametrize(("taken", "left"), [(0.02, (3,)), (0.019, ())])
def test_suspects_are_left_that_make_false_positives_and_are_called_something_else(taken, left):
    labels = [("b", True), ("", False), ("stripes", False), ("stripes", True)]
    some = found(torch.zeros(40, 4), names=labels)
    of_class = studied(tried([0, 1, 2, 3], "cannot be told", taken=taken), tried([3], "culprit", taken=0.5))
    assert suspects_left(some, of_class, torch.ones(4), Limits()) == left


def found(a, foreign=(), names=()):
    """Of 40 images the first 20 show class 0; latents in `foreign` do not mean it."""
    labels, named = zip(*(names or [("", False)] * a.shape[1]), strict=True)
    mask = torch.zeros(a.shape[1], 1, dtype=torch.bool)
    mask[list(foreign)] = True
    return SimpleNamespace(
        seen=seen([0] * 20 + [1] * 20, a),
        subjects=subjects(["a", "b"], [0] * 20 + [1] * 20),
        judged=SimpleNamespace(meaning=SimpleNamespace(foreign=mask), labels=labels, named=named),
    )


def rows(others):
    """Latent 0 is on all images of the class, and on some others as much."""
    a = torch.zeros(40, 2)
    a[:20, 0] = a[20 : 20 + others, 0] = 1.0
    return a


@pytest.mark.parametrize(("others", "told"), [(0, False), (9, False), (10, True)])
def test_what_drives_a_class_on_its_own_images_alone_may_be_a_cue(others, told):
    said = untold(found(rows(others)), studied(), torch.tensor([1.0, 0.2]), OPTIONS)
    assert (said == "") == told
    if not told:
        assert "on its own images alone" in said
        assert "collect images of it in other surroundings" in said


def test_suspects_are_named():
    some = found(rows(10), foreign=[0, 1])
    said = untold(some, studied(tried([1, 0], "cannot be told")), torch.tensor([1.0, 1.0]), OPTIONS)
    assert said.startswith("latents 1, 0 may drive it for a wrong reason")
    assert untold(found(rows(10)), studied(tried([1], "cannot be told")), torch.ones(2), OPTIONS) == ""


def test_a_class_that_is_not_told_in_any_way_is_said_to_be_unknown():
    some, of_latents = found(rows(10), foreign=[0, 1]), [tried([0], "cannot be told", class_auroc=0.62)]
    of_latents.append(tried([1], "cannot be told", class_auroc=0.71))
    said = untold(some, studied(*of_latents), torch.ones(2), OPTIONS)
    assert "hardly told from the others here" in said
    assert "AUROC 0.71, 0.8 is needed" in said
    of_latents.append(tried([1], "cannot be told"))
    assert untold(some, studied(*of_latents), torch.ones(2), OPTIONS).startswith("latents 0, 1 may drive")


def test_nothing_drives_it():
    assert untold(found(rows(0)), studied(), torch.zeros(2), OPTIONS) == ""


def test_a_class_without_images_is_on_none_of_them():
    some = found(rows(0))
    some.subjects = subjects(["b"], [0] * 40, of_class=[-1, 0])
    assert "on its own images alone" in untold(some, studied(), torch.tensor([1.0, 0.0]), OPTIONS)
