"""Tables as spreadsheets, scripts and other systems save them: read, or a message that names the place."""

import gzip
import json

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from lightning_sae.data import HuggingFaceImages, ImageTable
from lightning_sae.data.sources.columns import Names
from lightning_sae.data.sources.table_file import read_table

TEXT = "image,label\na.png,café\nb.png,thé\n"
ROWS = [["a.png", "café"], ["b.png", "thé"]]


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TEXT.encode()),
        ("a.CSV", TEXT.encode()),
        ("a.csv", TEXT.encode("utf-8-sig")),
        ("a.csv", TEXT.encode("utf-16")),
        ("a.csv", TEXT.replace("\n", "\r\n").encode()),
        ("a.csv.gz", gzip.compress(TEXT.encode("utf-8-sig"), mtime=0)),
        ("a.CSV.GZ", gzip.compress(TEXT.encode(), mtime=0)),
        ("my.table.tsv.gz", gzip.compress(TEXT.replace(",", "\t").encode(), mtime=0)),
        ("a.TSV", TEXT.replace(",", "\t").encode()),
        ("a.csv", b"image,label,\na.png,caf\xc3\xa9,\nb.png,th\xc3\xa9,\n"),
    ],
)
def test_tables_are_read_however_they_are_saved(tmp_path, name, content):
    frame = read_table(write(tmp_path / name, content), ["image", "label"])
    assert frame[["image", "label"]].to_numpy().tolist() == ROWS


def test_parquet_of_any_case(tmp_path):
    pd.DataFrame(ROWS, columns=["image", "label"]).to_parquet(tmp_path / "a.PARQUET")
    assert read_table(tmp_path / "a.PARQUET", ["image", "label"]).to_numpy().tolist() == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TEXT.encode("latin-1"),
            r"a\.csv is not UTF-8:\n  row 1, column 'label': 'café', if .*\n  row 2, column",
        ),
        ("image,étiquette\na,b\n".encode("latin-1"), r"\n  the name of column 2: 'étiquette'"),
        (b"", r"a\.csv is empty"),
        (b"image,label\n", r"a\.csv has no rows"),
        (b"image,label\na.png,cat\nb.png,dog,3\n", r"a\.csv, line 3: 3 cells, and the first line has 2"),
        (b"image,label\na.png,cat,1\nb.png,dog,3\n", r"a\.csv, line 2: 3 cells, and the first line has 2"),
        (b'image,label\na.png,"cat\n', r"a\.csv, line 2: unexpected end of data"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / "a.csv", content), ["image", "label"])


@pytest.mark.parametrize("damage", ["cut off", "other bytes", "no archive"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    packed = gzip.compress(TEXT.encode())
    content = {"cut off": packed[:-9], "other bytes": packed[:10] + b"\xff" * 9 + packed[19:]}
    path = write(tmp_path / "a.csv.gz", content.get(damage, b"PK"))
    with pytest.raises(ValueError, match=r"a\.csv\.gz is damaged"):
        read_table(path, ["image"])


@pytest.mark.parametrize("damage", ["empty", "cut off", "footer"])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    path = tmp_path / "a.parquet"
    pd.DataFrame(ROWS, columns=["image", "label"]).to_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut off": whole[:-9], "footer": whole[:-60] + b"\xff" * 20 + whole[-40:]}[damage]
    )
    with pytest.raises(ValueError, match=r"a\.parquet is damaged"):
        read_table(path, ["image"])


@pytest.fixture
def pets(animals, tmp_path):
    animals.write_folder(tmp_path)
    frame = pd.DataFrame(animals.rows).drop(columns="bytes")
    frame["y"] = (frame["label"] == "house_cat").astype(int)
    return frame


@pytest.mark.parametrize("name", ["pets.csv", "pets.parquet"])
def test_lists_of_classes_are_named_with_file_row_and_column(pets, tmp_path, name):
    pets["label"] = [[label] for label in pets["label"]]
    pets.loc[1, "label"] = None
    if name.endswith(".csv"):
        pets.to_csv(tmp_path / name, index=False)
    else:
        pets.to_parquet(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}, column 'label', row 1 has several values, \['dog'\]"):
        ImageTable(tmp_path / name)


def test_lists_of_classes_in_rows_of_datasets(animals, tmp_path):
    features = Features(image=Value("binary"), label=Sequence(ClassLabel(names=["cat", "dog"])))
    content = {"image": [row["bytes"] for row in animals.rows], "label": [[0, 1]] * len(animals.rows)}
    Dataset.from_dict(content, features=features).to_parquet(tmp_path / "pets.parquet")
    source = HuggingFaceImages(str(tmp_path / "pets.parquet"), Names(), cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"the train split of .*, 'label', row 0 has several values"):
        source.split("train")


@pytest.mark.parametrize("classes", [None, ["dog", "cat"], {"0": "dog", "1": "cat"}])
@pytest.mark.parametrize("name", ["pets.csv", "pets.parquet"])
def test_minus_one_is_no_class_with_a_word(pets, tmp_path, classes, name):
    pets.loc[[0, 2], "y"] = -1
    path = tmp_path / name
    pets.to_csv(path, index=False) if name.endswith(".csv") else pets.to_parquet(path)
    with pytest.warns(UserWarning, match=r"column 'y': 2 rows have '-1', which is taken as no class"):
        table = ImageTable(path, names=Names(label="y", classes=classes))
    assert table.class_names == ([*"01"] if classes is None else ["dog", "cat"])
    assert table.split("train").targets.tolist() == [-1, 0, -1, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_minus_one_may_have_a_name(pets, tmp_path, recwarn):
    pets["y"] = pets["y"].map({0: -1, 1: 1})
    pets.to_csv(tmp_path / "pets.csv", index=False)
    table = ImageTable(tmp_path / "pets.csv", names=Names(label="y", classes={"-1": "dog", "1": "cat"}))
    assert table.split("val").targets.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert not recwarn


@pytest.mark.parametrize("split", ["Train", "TRAINING", " train "])
def test_splits_of_a_table_are_known_in_any_case(pets, tmp_path, split):
    pets["split"] = pets["split"].map({"train": split, "val": "Valid", "test": "TEST"})
    pets.to_csv(tmp_path / "pets.csv", index=False)
    table = ImageTable(tmp_path / "pets.csv")
    assert [len(table.split(name)) for name in ("train", "val", "test")] == [12, 7, 5]


def test_two_spellings_of_a_class_are_one_with_a_word(pets, tmp_path):
    pets.loc[[0, 12], "label"] = ["house cat", " dog"]
    pets.to_csv(tmp_path / "pets.csv", index=False)
    with pytest.warns(
        UserWarning, match=r"1 classes have several spellings.*\n  house cat: 'house cat', 'house_cat'"
    ):
        table = ImageTable(tmp_path / "pets.csv")
    assert table.class_names == ["dog", "house cat"]
    assert table.split("train").targets.tolist()[0] == 1


def test_two_spellings_in_features_are_one_with_a_word(animals, tmp_path):
    names = ["owl", "house_cat", "dog", "house cat"]
    features = Features(image=Value("binary"), label=ClassLabel(names=names))
    content = {"image": [row["bytes"] for row in animals.rows[:8]], "label": [0, 1, 2, 3] * 2}
    Dataset.from_dict(content, features=features).to_parquet(tmp_path / "pets.parquet")
    source = HuggingFaceImages(
        str(tmp_path / "pets.parquet"), Names(), cache_dir=tmp_path, val_fraction=0, test_fraction=0
    )
    with pytest.warns(UserWarning, match="several spellings"):
        train = source.split("train")
    assert train.class_names == ["owl", "house cat", "dog"]
    assert train.targets.tolist() == [0, 1, 2, 1] * 2


def test_wordnet_ids_are_known_in_tables_and_features(pets, animals, tmp_path):
    ids = {"dog": "n02085620", "house_cat": "n02123045"}
    pets["label"] = pets["label"].map(ids)
    pets.to_csv(tmp_path / "pets.csv", index=False)
    assert ImageTable(tmp_path / "pets.csv").class_names == ["Chihuahua", "tabby cat"]
    features = Features(image=Value("binary"), label=ClassLabel(names=[*ids.values()]))
    content = {"image": [row["bytes"] for row in animals.rows[:8]], "label": [0, 1] * 4}
    Dataset.from_dict(content, features=features).to_parquet(tmp_path / "pets.parquet")
    source = HuggingFaceImages(str(tmp_path / "pets.parquet"), Names(), cache_dir=tmp_path, val_fraction=0)
    assert source.split("train").class_names == ["Chihuahua", "tabby cat"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.json", '{"dog": "a hound", "house_cat": "a cat"}'),
        ("classes.yaml", "dog: a hound\nhouse_cat: a cat\n"),
        ("classes.txt", "dog a hound\n\nhouse_cat\ta cat\n"),
        ("classes.json", '["a hound", "a cat"]'),
        ("classes.JSON", '[\n\t"a hound",\n\t"a cat"]'),
    ],
)
def test_classes_may_stand_in_a_file(tmp_path, name, content):
    from lightning_sae.data.sources.given_classes import given_classes

    (tmp_path / name).write_text(content)
    names = ["a hound", "a cat"]
    wanted = names if content.startswith("[") else dict(zip(["dog", "house cat"], names, strict=True))
    assert given_classes(str(tmp_path / name)) == wanted


def test_json_lists_are_read_as_json(tmp_path):
    from lightning_sae.data.sources.given_classes import given_classes

    path = tmp_path / "classes.json"
    path.write_text(json.dumps(["cat 😀", "007"]))
    assert given_classes(path) == ["cat 😀", "007"]
    path.write_text('["cat", 5]')
    with pytest.raises(ValueError, match=r"classes\.json holds 5, which is no text"):
        given_classes(path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["hot dog", "hot_dog"], "data.classes names 1 classes twice:\n  hot dog"),
        ({"a_b": "x", "a b": "y"}, "gives 'a b' two names, 'x' and 'y'"),
        (7, "must be a list of names"),
    ],
)
def test_classes_that_contradict_themselves(classes, message):
    from lightning_sae.data.sources.given_classes import given_classes

    with pytest.raises(ValueError, match=message):
        given_classes(classes)
