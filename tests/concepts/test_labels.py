import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_sae.concepts.vocabulary import (
    Vocabulary,
    english_vocabulary,
    imagenet_vocabulary,
    vocabulary_from_file,
)


class HashedText:
    """A text encoder that knows nothing: each text has its own fixed random direction."""

    def __init__(self):
        self.seen = []

    def encode_text(self, texts):
        self.seen.extend(texts)
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=8) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.stack(rows)), dim=-1)


@pytest.fixture
def clip():
    return HashedText()


def test_the_labels_of_the_data_are_the_default(clip):
    assert Vocabulary().embed(clip, ["cat", "dog"]).labels == ["cat", "dog"]
    assert Vocabulary(["sun"]).embed(clip, ["cat", "dog"]).labels == ["sun"]


def test_several_templates_are_averaged_as_unit_vectors_and_renormalised(clip):
    embedded = Vocabulary(["cat", "dog"], ["a {} here", "{}"]).embed(clip, [])
    for label, text in zip(["cat", "dog"], embedded.texts, strict=True):
        mean = clip.encode_text([f"a {label} here", label]).numpy().mean(0)
        np.testing.assert_allclose(text, mean / np.linalg.norm(mean))


def test_the_empty_prompt_is_the_templates_around_nothing(clip):
    embedded = Vocabulary(["cat"], ["a photo of {}"]).embed(clip, [])
    torch.testing.assert_close(embedded.empty, clip.encode_text(["a photo of"])[0])
    plain = Vocabulary(["cat"]).embed(clip, [])
    torch.testing.assert_close(plain.empty, clip.encode_text([""])[0])


def test_duplicates_count_once_at_their_first_place(clip):
    embedded = Vocabulary(["b", "a", " b ", "a"]).embed(clip, [])
    assert embedded.labels == ["b", "a"]
    assert embedded.texts.shape == (2, 8)
    assert clip.seen == ["b", "a", ""]


def test_labels_that_read_the_same_count_once():
    labels = ["hot_dog", "hot dog", "e\u0301", "\xe9", "star\u200b", "star"]
    assert Vocabulary(labels).labels == ["hot dog", "\xe9", "star"]


def test_braces_in_a_label_are_only_text(clip):
    Vocabulary(["{x}"], ["a {}"]).embed(clip, [])
    assert clip.seen[0] == "a {x}"


@pytest.mark.parametrize(
    "content",
    ["cat\n# no comment\ncat\n dog", "cat\r\n# no comment\r\ndog\r\n", "\ufeffcat\n# no comment\ndog\n"],
)
def test_a_file_holds_one_label_a_line(tmp_path: Path, content):
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode())
    assert vocabulary_from_file(path).labels == ["cat", "# no comment", "dog"]


@pytest.mark.parametrize(
    ("content", "line"), [("cat\n\ndog\n", 2), ("cat\n  \n", 2), ("\ncat", 1), ("a\n\n", 2)]
)
def test_a_blank_line_is_named(tmp_path, content, line):
    path = tmp_path / "labels.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"line {line} is blank"):
        vocabulary_from_file(path)


def test_files_without_labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("")
    with pytest.raises(ValueError, match="holds no labels"):
        vocabulary_from_file(path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        vocabulary_from_file(path)
    with pytest.raises(FileNotFoundError):
        vocabulary_from_file(tmp_path / "missing.txt")


def test_lists_without_labels(clip):
    with pytest.raises(ValueError, match="is empty"):
        Vocabulary([])
    with pytest.raises(ValueError, match="is empty"):
        Vocabulary().embed(clip, [])
    with pytest.raises(ValueError, match=r"label 1 .* is blank"):
        Vocabulary(["cat", " "])
    with pytest.raises(ValueError, match="must be a list"):
        Vocabulary("cat")


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{} and {}"], ["a {label}"], "{}"])
def test_templates_that_do_not_fit(templates):
    with pytest.raises(ValueError, match="template"):
        Vocabulary(["cat"], templates)


@pytest.mark.parametrize(("name", "count"), [("openai", 80), ("simple", 7)])
def test_templates_by_name_are_open_clips(clip, name, count):
    vocabulary = Vocabulary(["cat"], name)
    assert len(set(vocabulary.templates)) == count
    assert "itap of a {}." in vocabulary.templates
    embedded = vocabulary.embed(clip, [])
    mean = clip.encode_text([t.format("cat") for t in vocabulary.templates]).mean(0)
    torch.testing.assert_close(embedded.texts[0], torch.nn.functional.normalize(mean, dim=0))
    assert "itap of a ." in clip.seen


def test_imagenets_names_are_merged_where_two_classes_share_one():
    labels = imagenet_vocabulary("simple").labels
    assert len(labels) == len(set(labels)) == 998
    assert labels.count("missile") == 1
    assert labels.index("goldfish") == 1


def test_english_words():
    labels = english_vocabulary().labels
    assert len(labels) > 7000
    assert {"star", "red", "wooden"} <= set(labels)
    assert "abbreviate" not in labels
    assert labels == english_vocabulary().labels  # the order decides ties
    nouns = english_vocabulary(["noun"]).labels
    assert set(nouns) < set(labels)
    with pytest.raises(ValueError, match="categories must be a list of noun, adjective, verb"):
        english_vocabulary(["nouns"])


def test_without_its_package_the_english_vocabulary_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wonderwords", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning_sae\[words\]'"):
        english_vocabulary()
