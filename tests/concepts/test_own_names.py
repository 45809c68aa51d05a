"""Names that people write: read, refused, written, and used in tables."""

import pandas as pd
import pytest

from lightning_sae.concepts.own_names import read_names, with_own_names, write_names


def test_what_is_written_is_read(tmp_path):
    names = {7: "flag on navy", 3: '=1+1, "quoted"', 12: "'tis", 5: "日本"}
    write_names(tmp_path / "names.csv", names, "ab" * 32)
    assert read_names(tmp_path / "names.csv", "ab" * 32) == names
    lines = (tmp_path / "names.csv").read_text("utf-8").splitlines()
    assert lines[0] == "latent,name,sae"
    assert [line.split(",")[0] for line in lines[1:]] == ["3", "5", "7", "12"]
    assert lines[1].split(",")[1].startswith("\"'=1+1")  # a spreadsheet does not run it


def test_a_file_of_a_person_needs_two_columns(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("name,latent,why\nstar,3,I say so\n,4,\n", "utf-8")
    assert read_names(path, "ab") == {3: "star"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent\n3\n", "lacks the columns name"),
        ("latent,name\nx,star\n", "line 2: a latent is a number, got 'x'"),
        ("latent,name\n-1,star\n", "line 2: a latent is a number"),
        ("latent,name\n3,star\n3,sun\n", "line 3: latent 3 has a name already"),
        (f"latent,name\n3,{'a' * 201}\n", "one line of at most 200 letters"),
        ('latent,name\n3,"a\nb"\n', "one line of at most 200 letters"),
        ("latent,name,sae\n3,star,ffff\n", "names latents of another autoencoder"),
        ("", "is empty"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    (tmp_path / "names.csv").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / "names.csv", "abcd")


def test_tables_have_the_names_in_the_place_of_labels():
    table = pd.DataFrame(
        {"latent": [3, 4], "label": ["cat", "dog"], "named": [False, True], "novel": [True, False]}
    )
    found = with_own_names(table, {3: "whiskers", 9: "nobody"})
    assert found["label"].tolist() == ["whiskers", "dog"]
    assert found["named"].astype(str).tolist() == ["True", "True"]
    assert found["novel"].astype(str).tolist() == ["False", "False"]
    assert found["judge_label"].tolist() == ["cat", "dog"]
    by_latent = with_own_names(table.set_index("latent"), {4: "hound"})
    assert by_latent.loc[4, "label"] == "hound"
    assert table["label"].tolist() == ["cat", "dog"]
    other = pd.DataFrame({"class": ["a"], "label": ["b"]})
    assert with_own_names(other, {0: "c"}) is other
    assert with_own_names(table, {}) is table
