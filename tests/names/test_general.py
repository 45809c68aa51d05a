"""Vocabularies beside that of a run."""

import pytest

from lightning_sae.names.general import general_vocabulary

INDEX = """  1 This software and database is being provided to you, the LICENSEE, by
  2 Princeton University under the following license.
dog n 7 5 @ ~ #m #p %p 7 1 02084071 10114209
hot_dog n 3 3 @ ~ + 3 1 07697537 10187710
"""


def test_the_nouns_of_wordnet(tmp_path, monkeypatch):
    (tmp_path / "index.noun").write_text(INDEX)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    vocabulary = general_vocabulary("wordnet", ["a photo of a {}"])
    assert vocabulary.labels == ["dog", "hot dog"]
    assert list(vocabulary.templates) == ["a photo of a {}"]


def test_without_wordnet_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="apt install wordnet-base"):
        general_vocabulary("wordnet")
