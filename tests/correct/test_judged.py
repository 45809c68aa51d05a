"""Images with a cue by the judge, where the data do not know it."""

from types import SimpleNamespace

import pytest
import torch

from lightning_sae.audit.verdict.sides import usual
from lightning_sae.correct import judged
from lightning_sae.correct.embeddings import CulpritView
from lightning_sae.correct.judged import JUDGE, find_look, with_look

VIEWS = {
    "val": torch.tensor([[0.1], [0.9], [0.6], [0.8], [0.2]]),
    "test": torch.tensor([[0.7], [0.65], [0.0]]),
}


@pytest.fixture
def run(monkeypatch):
    """The judge's first axis is the label."""
    monkeypatch.setattr(judged, "embed_labels", lambda judge, labels, templates: torch.ones(1, 1))
    vocabulary = SimpleNamespace(templates=["{}"])
    data = SimpleNamespace(judge=None, judge_view=VIEWS.get)
    return SimpleNamespace(vocabulary=lambda: vocabulary, data=data)


def finding(label="red mark", named=True, examples=(1, 2, 3, 4)):
    return SimpleNamespace(culprits=(SimpleNamespace(label=label, named=named, examples=examples),))


def test_three_of_four_images_that_the_culprit_drives_look_like_its_label(run):
    look = find_look(run, finding(), ["bag"])
    assert (look.label, look.least) == ("red mark", pytest.approx(0.6))
    images = CulpritView(
        torch.zeros(3, 2),
        torch.zeros(3, 1),
        torch.zeros(3),
        {"size": (["s"], torch.zeros(3))},
        torch.arange(3),
    )
    values, truth = with_look(run, "test", images, look).factors[JUDGE]
    assert values == ["red mark", "not red mark"]
    assert truth.tolist() == [0, 0, 1]
    assert list(with_look(run, "test", images, look).factors) == ["size", JUDGE]
    assert with_look(run, "test", images, None) is images


@pytest.mark.parametrize("changed", [{"named": False}, {"label": "bag"}, {"examples": ()}])
def test_there_is_no_look_without_a_name_that_is_no_class(run, changed):
    assert find_look(run, finding(**changed), ["bag", "coat"]) is None


@pytest.mark.parametrize(("n", "reached"), [(1, 1), (4, 3), (8, 6), (20, 15)])
def test_the_value_that_three_of_four_reach(n, reached):
    values = torch.randperm(n).float()
    assert int((values >= usual(values)).sum()) == reached
