"""The tests of each kind, on both sides of every threshold."""

import pytest
import torch

from lightning_sae.audit.kinds import decide

from .imagined import case, judged

COMPOUND = {"thing": 1, "detects": 0.9, "share": 0.5, "called": 0.5}
READS = {"auroc": 0.9, "attribution": 0.1, "predicted": 0.3, "predicted_p": 0.04}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "compound"),
        ({"detects": 0.89}, "spurious"),
        ({"share": 0.49}, "spurious"),
        ({"called": 0.51}, "spurious"),
        ({"detects": 0.89, "aligned": 0.5}, None),
        ({"names": ("dog", "seal")}, "polysemous"),
        ({"aligned": 0.9}, "compound"),
        ({"detects": float("nan")}, "spurious"),
    ],
)
def test_another_thing(changes, kind):
    assert decide(case(**COMPOUND | changes), 0).kind == kind


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "typographic"),
        ({"auroc": 0.89}, "spurious"),
        ({"attribution": 0.0}, "spurious"),
        ({"auroc_p": 0.1}, "spurious"),
        ({"predicted_p": 0.06}, "spurious"),
        ({"predicted_p": 0.06, "aligned": 0.5}, None),
        ({"aligned": 0.9}, "typographic"),
        (COMPOUND, "compound"),
        (COMPOUND | {"called": 0.51}, "typographic"),
    ],
)
def test_the_drawn_word(changes, kind):
    assert decide(case(**READS | changes), 0).kind == kind


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"aligned": 0.49}, "spurious"),
        ({"aligned": 0.5}, None),
        ({"aligned": 0.6, "otherwise": 0.7}, "spurious"),
        ({"aligned": 0.6, "otherwise": 0.6}, None),
        ({"aligned": 0.6, "otherwise": 0.7, "called": 0.5}, None),
    ],
)
def test_what_does_not_look_like_the_class(changes, kind):
    decided = decide(case(**changes), 0)
    assert decided.kind == kind
    assert (decided.confidence > 0) == (kind is not None)


def test_how_sure_it_is():
    assert decide(case(**COMPOUND | {"detects": 0.95}), 0).confidence == pytest.approx(0.95)
    assert decide(case(**READS | {"auroc": 0.97}), 0).confidence == pytest.approx(0.97)
    assert decide(case(auroc=0.6, thing=1, detects=0.8, share=0.1), 0).confidence == pytest.approx(0.6)


def test_without_wrong_predictions_no_other_thing_is_named():
    decided = decide(case(auroc=0.6), 0)
    assert [e.name for e in decided.evidence] == [
        *("class_alignment", "word_auroc", "word_attribution", "word_effect")
    ]
    assert decided.confidence == pytest.approx(0.7)


def test_the_evidence_names_what_was_tested():
    decided = decide(case(**COMPOUND), 0)
    tests = {e.name: e for e in decided.evidence}
    assert '"lion"' in tests["thing_auroc"].meaning
    assert '"sea lion"' in tests["word_auroc"].meaning
    assert tests["judge_disagrees"].value == 0.5
    assert [e.name for e in decided.evidence if e.passed] == [
        *("thing_auroc", "thing_share", "judge_disagrees", "class_alignment")
    ]


def test_another_word_counts_where_wrong_predictions_are_looked_at():
    told = case(aligned=0.6, otherwise=0.7)
    assert decide(told, 0).kind == "spurious"
    assert decide(told._replace(by_errors=False), 0).kind is None


def test_a_label_that_is_the_class_is_no_other_word():
    judge = judged(2, 3, 2, [0, 1])._replace(
        class_names=["Sea-lion", "dog"],
        labels=["sea lion", "dog", ""],
        label_alignment=torch.tensor([0.7, 0.6, torch.nan]),
    )
    assert judge.otherwise(0, "lion").isnan().tolist() == [True, False, True]
    assert judge.otherwise(1, "dog").isnan().tolist() == [False, True, True]


def test_what_the_judge_calls_the_class():
    judge = judged(4, 1, 2, [0, 0, 1, 1])
    images = torch.tensor([True, True, True, False])
    assert judge.called(images, 0) == pytest.approx(2 / 3)
    assert judge.called(images, 1) == pytest.approx(1 / 3)
    assert judge.called(~images & images, 0) == 0
