"""What ablation does, and how severe that is."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from lightning_sae.audit import effect
from lightning_sae.audit.effect import finding_effects, severity
from lightning_sae.audit.findings import Change, Effect
from lightning_sae.effects import Removal
from lightning_sae.methods import Explained
from lightning_sae.scores import ClassScores
from lightning_sae.types import SparseLatents

from .imagined import seen, subjects


def change(before, after):
    return Change(images=100, as_it_is=before, without=after)


@pytest.mark.parametrize(
    ("changes", "share", "level"),
    [
        ({}, 0.5, "high"),
        ({}, 0.49, "medium"),
        ({}, 0.2, "medium"),
        ({}, 0.19, "low"),
        ({"false_positives": change(0.5, 0.4)}, 0.1, "high"),  # in floats it is less than 0.1
        ({"false_positives": change(0.5, 0.41)}, 0.1, "medium"),
        ({"accuracy": change(0.3, 0.32)}, 0.1, "medium"),
        ({"accuracy": change(0.3, 0.319)}, 0.1, "low"),
        ({"worst_group": change(0.0, 0.1)}, 0.0, "high"),
        ({"score": change(5.0, -5.0)}, 0.1, "low"),
    ],
)
def test_severity(changes, share, level):
    assert severity(Effect(**changes), share) == level


@pytest.fixture
def effects(monkeypatch):
    """Six images `x = a`, latent 1 being the cue of class 0; classes 0 and 1, and a thing that is none."""
    x = torch.tensor([[1.0, 3, 0], [4, 0, 0], [0, 3, 2], [0, 3, 2], [0, 0, 3], [0, 1, 3]])
    texts = normalize(torch.tensor([[1.0, 1, 0], [0, 0, 1]]), dim=1)
    scores = ClassScores(texts, "cosine")
    explained = Explained(
        lambda x, context: normalize(x[:, 0], dim=-1),
        torch.eye(3),
        x[:, None],
        x[:, None],
        SparseLatents.from_dense(x),
        None,
        torch.arange(6),
    )
    monkeypatch.setattr(effect, "explained_images", lambda run: [explained])
    grounds = (["red", "blue"], torch.tensor([0, 1, 0, 1, 1, 1]))
    images = SimpleNamespace(factors={"background": grounds})
    run = SimpleNamespace(data=SimpleNamespace(images=lambda split: images))
    shown = subjects(["a", "b", "other"], [0, 0, 1, 2, 1, 1], of_class=[0, 1])
    predicted = (normalize(x, dim=1) @ texts.T).argmax(1)
    found = SimpleNamespace(seen=seen(predicted.tolist(), x.tolist()), subjects=shown)

    def effects(latents, min_group=1):
        (only,) = finding_effects(run, scores, found, [Removal(0, latents)], min_group)
        return only

    return effects


def test_what_the_classifier_does_not_know_is_a_false_positive(effects):
    found = effects((1,))
    # predicted as a: images 0, 1 (right), 2 (b) and 3 (other); without latent 1 only 0 and 1
    assert found.false_positives == Change(images=4, as_it_is=0.5, without=0.0)
    assert found.accuracy == Change(images=2, as_it_is=1.0, without=1.0)
    assert found.score.images == 4
    assert found.score.without < found.score.as_it_is


def test_the_worst_group_is_the_worst_one_as_it_is(effects):
    found = effects((0,))
    # without latent 0 image 0 (red) is still a, image 1 (blue) is nothing at all: both are right as it is
    assert found.worst_group.group in ("background=red", "background=blue")
    assert found.worst_group.as_it_is == 1.0
    assert effects((1,), min_group=2).worst_group is None


def test_nothing_to_remove():
    assert finding_effects(None, None, None, [], 1) == []
