"""What people write is read as it stands, and a fault names file and line."""

import json
import os

import pytest

from lightning_sae.trust.documents import (
    check_texts,
    read_config,
    read_json,
    read_json_list,
    read_text,
    read_yaml,
    read_yaml_list,
)
from lightning_sae.trust.tables import read_csv, read_table

LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: y}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n  k{i}: v\n" for i in range(1, 12)
)


@pytest.fixture
def write(tmp_path):
    def write(content, name="file.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_texts_stay_as_they_are_written(write):
    words = ["no", "yes", "007", "12:30", "1e3", "0x1F", "1_000", "2024-01-01", "true", ".inf", "=", "é"]
    path = write("".join(f"{word}: [{word}, '{word}']\n" for word in words))
    assert read_yaml(path) == {word: [word, word] for word in words}


def test_a_list_of_texts(write):
    assert read_yaml_list(write("- sae.k=4\n- 1e3\n- no\n")) == ["sae.k=4", "1e3", "no"]
    assert read_yaml_list(write("[]\n")) == []
    with pytest.raises(ValueError, match="line 1: a sequence is expected, got a mapping"):
        read_yaml_list(write("a: b\n"))


def test_a_json_list(write):
    words = ["cat 😀", "12:30", 5, None]
    assert read_json_list(write(json.dumps(words, indent="\t"))) == words
    with pytest.raises(ValueError, match="line 1: no JSON list, but a dict"):
        read_json_list(write("{}"))


def test_null_is_none_and_no_key(write):
    assert read_yaml(write("null: ~\nb:\nc: null\nd: ''\n")) == {"null": None, "b": None, "c": None, "d": ""}


def test_aliases_and_merges_are_followed(write):
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n"
    one = {"x": "1", "y": "2"}
    assert read_yaml(write(text)) == {"a": one, "b": {"x": "1", "y": "3"}, "c": one}
    assert read_config(write(text)).b == {"x": 1, "y": 3}


@pytest.mark.parametrize("read", [read_yaml, read_config])
@pytest.mark.parametrize("bomb", [LAUGHS, MERGES], ids=["laughs", "merges"])
def test_aliases_that_multiply_are_refused(write, read, bomb):
    with pytest.raises(ValueError, match=r"file\.yaml: its aliases add more than 10,000 values"):
        read(write(bomb))


@pytest.mark.parametrize("read", [read_yaml, read_config])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: [1, 2\n", "line 3: .*cut off"),
        ("a: 1\nb: 'x\n", "line 3: .*cut off"),
        ("a: 1\n\tb: 2\n", "line 2: "),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands there twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: the key 'b' stands there twice"),
        ("a: &a [*a]\n", "line 1: an alias stands inside"),
        ("a: *b\n", "line 1: found undefined alias"),
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", "line 2: could not determine a constructor"),
        ("- a\n- b\n", "line 1: a mapping is expected, got a sequence"),
        ("", "line 1: a mapping is expected, got nothing"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("? [a, b]\n: c\n", "line 1: a key is a text, got a sequence"),
        ("a: 1\nb: \x07\n", "line 2: the character '.x07' is not allowed"),
        (b"a: 1\nb: caf\xe9\n", "line 2: the byte 0xe9 is not UTF-8"),
        (b"\xff\xfea\x00", "line 1: the byte 0xff is not UTF-8"),
        ("[" * 5000, "line 1: there are more than 50 values in each other"),
        ("a: {" * 5000, "line 1: there are more than 50 values in each other"),
        ("- " * 5000, "line 1: there are more than 50 values in each other"),
        ("".join(f"{'  ' * i}a:\n" for i in range(90)), "line 50: there are more than 50 values in each"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200)), "its aliases add"),
        ("a: 1\nb: !!bool maybe\n", "line 2: 'maybe' is no bool"),
        ("a:\n- !!timestamp x\n", "line 2: 'x' is no timestamp"),
        ("a: 1\nb: {c: !!int ''}\n", "line 2: '' is no int"),
        ("a: 1\nb: !!float x\n", "line 2: 'x' is no float"),
    ],
)
def test_yaml_faults_name_file_and_line(write, read, content, said):
    with pytest.raises(ValueError, match=rf"(?s)file\.yaml[,:] ?{said}"):
        read(write(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1,\n "b": [1, 2', ", line 2: no JSON: the file ends too early"),
        ("", ", line 1: no JSON: the file ends too early"),
        ('{"a": 1,\n "b": x}', ", line 2: no JSON: Expecting value"),
        ('{"a": {"b": 1, "b": 2}}', ": the key 'b' stands there twice"),
        ("[1]", ", line 1: no JSON object, but a list"),
        ('{"a":' * 100_000, ": it is nested too deeply"),
        (f'{{"a": {"9" * 5000}}}', ": Exceeds the limit"),
        (b'{"a": 1,\n"\xff": 2}', ", line 2: the byte 0xff is not UTF-8"),
        ('{"a": 1}', " lacks b, c"),
    ],
)
def test_json_faults_name_file_and_line(write, content, said):
    with pytest.raises(ValueError, match=rf"file\.json{said}"):
        read_json(write(content, "file.json"), needed=["a", "b", "c"])


def test_a_byte_order_mark_is_no_text(write):
    assert read_text(write(b"\xef\xbb\xbfa", "a.txt")) == "a"
    content = {"é": [1, None, 0.5], "b": "\x1b"}
    assert read_json(write(b"\xef\xbb\xbf" + json.dumps(content).encode())) == content


def test_a_configuration_keeps_interpolations_and_numbers(write):
    config = read_config(write("a: 1e3\nb: ${a}\nc: '${oc.env:HOME}'\n"))
    assert config.b == 1000.0
    assert dict(config.items_ex(resolve=False))["c"] == "${oc.env:HOME}"


@pytest.mark.parametrize("read", [read_text, read_json, read_yaml, read_config, read_table, read_csv])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, read, kind):
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "a")
    with pytest.raises(ValueError, match="a is a folder, a pipe or a device: name a file"):
        read(tmp_path / "a")


def test_aliases_in_aliases_are_too_deep_for_a_configuration(write):
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 130))
    with pytest.raises(ValueError, match=r"file\.yaml: it is nested too deeply"):
        read_config(write(text))


def test_a_key_that_comes_again_is_found_among_many(write):
    keys = [*range(40_000), 0]
    with pytest.raises(ValueError, match="the key '0' stands there twice"):
        read_json(write("{" + ",".join(f'"{key}":0' for key in keys) + "}"))


def test_half_of_a_character_is_no_text():
    with pytest.raises(ValueError, match=r"data\.classes holds 'cat \\ud83d', which has half of a character"):
        check_texts("data.classes", ["cat 😀", "cat \ud83d"])
