"""What an image shows: by the data, else by the judge."""

from types import SimpleNamespace

import pytest
import torch

from lightning_sae.audit.evidence.subjects import find_subjects

NAMES = ["cat", "dog", "owl"]


class Judge:
    """Its text of a class is an axis."""

    def encode_text(self, texts):
        return torch.stack([torch.eye(3)[next(c for c, n in enumerate(NAMES) if n in t)] for t in texts])


def data(targets, seen_as=(0, 1, 2, 0), names=NAMES):
    targets = torch.tensor(targets)
    return SimpleNamespace(
        class_names=list(names),
        images=lambda split: SimpleNamespace(targets=targets),
        judge=Judge(),
        judge_embeddings=torch.eye(3)[list(seen_as)],
    )


def test_the_judge_decides_where_the_data_do_not():
    found = find_subjects(data([2, -1, -1, 1]), NAMES)
    assert found.subject.tolist() == [2, 1, 2, 1]
    assert found.known.tolist() == [True, False, False, True]
    assert found.targets.tolist() == [2, -1, -1, 1]
    assert found.show(2).tolist() == [True, False, True, False]
    assert found.shown.tolist() == [2, 1, 2, 1]


def test_nothing_known_at_all():
    found = find_subjects(data([-1] * 4), NAMES)
    assert found.subject.tolist() == [0, 1, 2, 0]
    assert found.targets.eq(-1).all()


def test_a_classifier_of_other_classes():
    found = find_subjects(data([2, 0, 1, 1]), ["fox", "dog"])
    assert list(found.of_class) == [-1, 1]
    assert found.show(0).tolist() == [False] * 4
    assert found.show(1).tolist() == [False, False, True, True]
    assert found.shown.tolist() == [-1, -1, 1, 1]
    values = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])  # of cat, dog and owl
    assert found.of_classes(values)[0].isnan().all()
    assert torch.equal(found.of_classes(values)[1], values[1])
    owl, cat = 2 + 2, 2 + 0  # what the classifier does not have
    assert found.targets.tolist() == [owl, cat, 1, 1]


def test_two_classes_of_one_name():
    names = ["crane", "dog", "crane"]
    found = find_subjects(data([0, 1, 2, 2], names=names), names)
    assert [found.show(c).tolist() for c in (0, 2)] == [[True] + [False] * 3, [False, False, True, True]]
    assert found.targets.tolist() == [0, 1, 2, 2]
    assert list(find_subjects(data([0, 1, 2, 2], names=names), ["crane"]).of_class) == [0]


def test_no_class_in_common():
    with pytest.raises(ValueError, match=r"the classifier knows fox, \.\.\., the data cat, dog, owl, \.\.\."):
        find_subjects(data([0] * 4), ["fox"])
