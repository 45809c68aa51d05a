"""The tests of each kind, on both sides of every threshold."""

import pytest
import torch

from lightning_sae.audit.verdict.kinds import decide

from .imagined import NAN, case, gap_of, judged

COMPOUND = {"thing": 1, "detects": 0.9, "share": 0.5, "called": 0.5}
READS = {"auroc": 0.9, "attribution": 0.1, "predicted": 0.3, "predicted_p": 0.04}
ERRORS = {"foreign": False, "errors_p_class": 0.001, "errors_below": True, "errors_called": 0.49}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "compound"),
        ({"detects": 0.89}, "spurious"),
        ({"share": 0.49}, "spurious"),
        ({"called": 0.51}, "spurious"),
        ({"detects": 0.89, "foreign": False}, None),
        ({"names": ("dog", "seal")}, "polysemous"),
        ({"foreign": False}, "compound"),
        ({"asked": False, "foreign": False}, None),
        ({"detects": NAN}, "spurious"),
    ],
)
def test_another_thing(changes, kind):
    assert decide(case(**COMPOUND | changes), 0).kind == kind


@pytest.mark.parametrize(
    ("words", "changes", "kind"),
    [
        ({}, {}, "typographic"),
        ({"auroc": 0.89}, {}, "spurious"),
        ({"attribution": 0.0}, {}, "spurious"),
        ({"auroc_p": 0.5}, {}, "typographic"),
        ({"auroc_p": 0.51}, {}, "spurious"),
        ({"predicted_p": 0.06}, {}, "spurious"),
        ({"predicted_p": 0.06}, {"foreign": False}, None),
        ({}, {"foreign": False}, "typographic"),
        ({}, {"foreign": False, "asked": False}, "typographic"),
        ({}, COMPOUND, "compound"),
        ({}, COMPOUND | {"called": 0.51}, "typographic"),
    ],
)
def test_the_printed_word(words, changes, kind):
    assert decide(case(words=READS | words, **changes), 0).kind == kind


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"foreign": True}, "spurious"),
        ({"foreign": False}, None),
        ({"foreign": True, "agreement": NAN}, None),  # it has no top images
        (ERRORS, "spurious"),
        (ERRORS | {"errors_called": 0.5}, None),
        (ERRORS | {"errors_below": False}, None),
        (ERRORS | {"asked": False}, None),
        (ERRORS | {"errors_p_class": NAN}, None),  # it drives no wrong prediction
    ],
)
def test_what_does_not_look_like_the_class(changes, kind):
    decided = decide(case(**changes), 0)
    assert decided.kind == kind
    assert (decided.confidence > 0) == (kind is not None)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "spurious"),
        ({"marked": False}, None),
        ({"gap": gap_of(low=0.0)}, None),
        ({"asked": False}, "spurious"),
    ],
)
def test_a_group_that_the_data_know_needs_no_judge(changes, kind):
    found = decide(case(**{"gap": gap_of(), "foreign": False, **changes}), 0)
    assert found.kind == kind
    if kind:
        tested = {e.name: e for e in found.evidence}["group_gap"]
        assert (tested.value, tested.p_value) == (0.1, 0.001)
        assert "with mark=yes are taken for the class (12.0%) than those without (2.0%)" in tested.meaning
        assert "AUROC of 0.90" in tested.meaning


def test_how_sure_it_is():
    assert decide(case(**COMPOUND | {"detects": 0.95}), 0).confidence == pytest.approx(0.95)
    assert decide(case(words=READS | {"auroc": 0.97}), 0).confidence == pytest.approx(0.97)
    unsure = case(words={"auroc": 0.6}, thing=1, detects=0.8, share=0.1)
    assert decide(unsure, 0).confidence == pytest.approx(0.6)


def test_without_wrong_predictions_no_other_thing_is_named():
    decided = decide(case(words={"auroc": 0.6}, by_errors=False), 0)
    assert [e.name for e in decided.evidence] == [
        *("top_images", "word_auroc", "word_attribution", "word_effect")
    ]
    assert decided.confidence == pytest.approx(0.7)


def test_the_evidence_names_what_was_tested():
    decided = decide(case(**COMPOUND), 0)
    tests = {e.name: e for e in decided.evidence}
    assert '"lion"' in tests["thing_auroc"].meaning
    assert '"sea lion"' in tests["word_auroc"].meaning
    assert tests["judge_disagrees"].value == 0.5
    assert (tests["thing_taken"].value, tests["thing_taken"].passed) == (0.25, None)
    assert (tests["top_images"].value, tests["top_images"].p_value) == (0.1, 0.001)
    assert [e.name for e in decided.evidence if e.passed] == [
        *("thing_auroc", "thing_share", "judge_disagrees", "top_images")
    ]


def test_a_class_without_images_has_no_p_value_of_its_own():
    tests = {e.name: e for e in decide(case(p_class=NAN), 0).evidence}
    assert tests["top_images"].p_value is None


def test_what_the_judge_calls_the_class():
    judge = judged(4, 1, 2, [0, 0, 1, 1])
    assert judge.called(torch.tensor([0, 1, 2]), 0) == pytest.approx(2 / 3)
    assert judge.called(torch.tensor([0, 1, 2]), 1) == pytest.approx(1 / 3)
    assert judge.called(torch.tensor([], dtype=torch.int64), 0) == 0


def test_what_sets_of_images_mean():
    """Thirty images of class 0 and 70 of class 1: pure sets agree with their own alone, mixed ones half."""
    judge = judged(100, 1, 2, [0] * 30 + [1] * 70)
    found = judge.of_images(torch.tensor([[0, 1, 2, 3], [30, 31, 32, 33], [0, 1, 30, 31], [-1] * 4]), 0)
    assert found.agreement[:, 0].tolist() == pytest.approx([1.0, 0.0, 0.5, NAN], nan_ok=True)
    assert found.below_class[:, 0].tolist() == [False, True, True, False]
    # all four of a random set show class 0 in one of 143 cases
    assert found.p_random[0, 0] < 0.02
    assert found.p_random[1, 0] == 1
    assert found.foreign[:, 0].tolist() == [False, True, True, False]
    none = judge._replace(shown=torch.full((100,), 1)).of_images(torch.tensor([[0, 1, 2, 3]]), 0)
    assert none.p_class.isnan().all()
    assert not none.foreign.any()
