"""Classes and labels are texts: none is taken for a number, and no number for a place that it is not."""

import pytest
from omegaconf import OmegaConf

from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.data.prompts import class_prompts
from lightning_sae.data.sources.columns import Column, check_columns, class_names


def test_a_label_is_a_place_only_where_no_name_is_a_number():
    assert Column.of([1, 0]).indices(["cat", "dog"], ["cat", "dog"], "t.csv").tolist() == [1, 0]
    names = ["1", "2", "3"]
    assert Column.of([1, 3, 2]).indices(names, names, "t.csv").tolist() == [0, 2, 1]
    for given in (names, ["cat", "-1"], ["cat", " 2 "]):
        with pytest.raises(ValueError, match=r"t\.csv has 1 classes that are not among .*\n  '0', 1 rows"):
            Column.of([0]).indices(given, given, "t.csv")


@pytest.mark.parametrize(
    "yaml", ["[yes, no]", "[007]", "[12:30]", "[1e3]", "[~]", "[2024, a]", "{a: no}", "{a: 007}"]
)
def test_a_name_that_yaml_reads_as_something_else_is_refused(yaml):
    given = OmegaConf.create(f"classes: {yaml}").classes
    with pytest.raises(ValueError, match=r"data\.classes holds .*, which is no text: .* put it into quotes"):
        class_names(None, given)


@pytest.mark.parametrize("yaml", ["{no: a}", "{1e3: a}", "{0.5: a}"])
def test_so_is_a_value(yaml):
    given = OmegaConf.create(f"classes: {yaml}").classes
    with pytest.raises(ValueError, match=r"data\.classes holds .*, which is no text"):
        class_names(None, given)


def test_quoted_they_are_what_they_say():
    given = OmegaConf.create("classes: {'no': 'yes', '007': '12:30', 8: bond}").classes
    assert class_names(None, given) == ["yes", "12:30", "bond"]
    assert Column.of(["007", "8", "no"]).indices(class_names(None, given), given, "").tolist() == [1, 2, 0]


def test_what_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="names 'cat' twice"):
        class_names(None, ["cat", "dog", "cat"])
    with pytest.raises(ValueError, match="names a value twice"):
        class_names(None, {1: "cat", "1": "dog"})
    assert class_names(None, {"a": "cat", "b": "cat"}) == ["cat"]  # two codes may share a name


def test_columns_templates_and_labels_are_texts():
    with pytest.raises(ValueError, match="columns holds False"):
        check_columns(["image", False], ["image", "no"], "t.csv")
    with pytest.raises(ValueError, match=r"data\.templates holds 7"):
        class_prompts(["cat"], [7])
    with pytest.raises(ValueError, match="vocabulary holds True"):
        Vocabulary(["cat", True])
    with pytest.raises(ValueError, match="templates holds None"):
        Vocabulary(["cat"], ["{}", None])
