"""Classes and labels are texts: none is taken for a number, and no number for a place that it is not."""

import json
import warnings

import pandas as pd
import pyarrow as pa
import pytest
from omegaconf import OmegaConf

from lightning_sae.concepts.vocabulary import Vocabulary
from lightning_sae.data.prompts import class_prompts, read_prompts
from lightning_sae.data.sources.columns import Column, check_columns, class_names
from lightning_sae.data.sources.given_classes import given_classes


def test_a_label_is_a_place_only_where_no_name_is_a_number():
    assert Column.of([1, 0]).indices(["cat", "dog"], ["cat", "dog"], "t.csv").tolist() == [1, 0]
    names = ["1", "2", "3"]
    assert Column.of([1, 3, 2]).indices(names, names, "t.csv").tolist() == [0, 2, 1]
    for given in (names, ["cat", "-1"], ["cat", " 2 "]):
        with pytest.raises(ValueError, match=r"t\.csv has 1 classes that are not among .*\n  '0', 1 rows"):
            Column.of([0]).indices(given, given, "t.csv")


@pytest.mark.parametrize(
    ("content", "values", "codes"),
    [
        ([" ", "_", "\u200b", "cat"], ["cat"], [-1, -1, -1, 0]),
        ([1.0, float("nan"), -1.0, 0.5], ["1", "0.5"], [0, -1, -1, 1]),
        (pd.array([0.0, float("nan"), None], dtype=pd.ArrowDtype(pa.float64())), ["0"], [0, -1, -1]),
        (["1.0", "1", "-1.0", "2.50"], ["1", "2.50"], [0, 0, -1, 1]),
        ([b"caf\xc3\xa9", "caf\xe9"], ["caf\xe9"], [0, 0]),
        (["nan", "NA", "null"], ["nan", "NA", "null"], [0, 1, 2]),  # a class may be called so: `check_words`
    ],
)
def test_values_as_classes(content, values, codes):
    with warnings.catch_warnings(action="ignore"):
        column = Column.of(content).as_labels("t.csv")
    assert column.values == values
    assert column.codes.tolist() == codes


def test_what_is_no_class_is_counted():
    with pytest.warns(UserWarning, match=r"^t\.csv: 2 rows have '-1', 1 rows have ' ', which is taken as no"):
        Column.of(["-1", "cat", "-1", " "]).as_labels("t.csv")
    named = Column.of(["-1.0", "1.0"]).as_labels("t.csv", {"-1.0": "none", "1.0": "cat"})
    assert named.values == ["-1.0", "1.0"]


@pytest.mark.parametrize("value", ["['a', 'b']", "('a', 'b')", '{"a": 1}', ("a", "b"), {"a": 1}, b"caf\xe9"])
def test_several_values_and_other_bytes_are_refused_with_their_row(value):
    with pytest.raises(ValueError, match=r"t\.csv, row 2 has (several values, .*a.*: an image has|.*decode)"):
        Column.of(["cat", value], "t.csv").as_labels("t.csv")


@pytest.mark.parametrize("given", [["cat", "_"], {"0": "cat", "1": "\u200b"}, {"": "cat"}])
def test_a_blank_name_is_refused(given, tmp_path):
    with pytest.raises(ValueError, match=r"data\.classes has a blank in (1|'1'|''): '(_|\\u200b|cat)'"):
        class_names(None, given)
    (tmp_path / "classes.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match=r"classes\.json has a blank in"):
        given_classes(tmp_path / "classes.json")


@pytest.mark.parametrize("prompts", [{"": ["x"]}, {"cat": [""]}, {"cat": "\u200b"}, {"_": "a"}])
def test_a_blank_prompt_is_refused(prompts, tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(prompts))
    with pytest.raises(ValueError, match=r"p\.json has a blank in '(|cat|_)': \['"):
        read_prompts(tmp_path / "p.json")


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
