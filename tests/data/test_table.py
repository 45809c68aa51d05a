"""Tables of images: the same as a folder, with groups; what is wrong in one is counted and named."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_sae.data import ImageFolders, ImageTable, capture_store
from lightning_sae.data.images.image_set import captions_of
from lightning_sae.data.sources.columns import Column, Names
from lightning_sae.data.sources.splits import stratified_split
from lightning_sae.data.store.shards import read_tensor


@pytest.fixture
def root(animals, tmp_path):
    animals.write_folder(tmp_path / "pets")
    return tmp_path / "pets"


@pytest.fixture
def frame(animals):
    return pd.DataFrame(animals.rows).drop(columns="bytes")


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_it_is_the_folder_whatever_the_order_of_the_rows(root, frame, tmp_path, suffix):
    path = write(frame.sample(frac=1, random_state=0), root / f"pets{suffix}")
    table, folder = ImageTable(path), ImageFolders(root)
    for split in ("train", "val", "test"):
        mine, theirs = table.split(split), folder.split(split)
        assert mine.files == theirs.files
        assert mine.class_names == theirs.class_names == ["dog", "house cat"]
        assert mine.identity()["files"] == theirs.identity()["files"]
        assert all(mine[i].tobytes() == theirs[i].tobytes() for i in range(len(theirs)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,label\na.png,cat\nb.png\n", r"pets\.csv, line 3: 1 cells, and the first line has 2"),
        ("image,label\na.png,cat\nb.png,dog,x\n", r"pets\.csv, line 3: 3 cells, and the first line has 2"),
        ("image,label\na.png,cat,x\nb.png,dog,x\n", r"pets\.csv, line 2: 3 cells, and the first line has 2"),
        ("image,label,label\na.png,cat,dog\n", r"pets\.csv, line 1: the column 'label' stands there twice"),
        ("", r"pets\.csv is empty"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, content, said):
    path = tmp_path / "pets.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"(?s){said}"):
        ImageTable(path, split=None)


def test_the_store_is_that_of_the_folder(root, frame, clip, tmp_path):
    table = ImageTable(write(frame, root / "pets.csv")).split("val")
    for name in ("embeddings", "targets"):
        found = [
            read_tensor(capture_store(images, clip, store_dir=tmp_path / "store") / "images", name)
            for images in (table, ImageFolders(root).split("val"))
        ]
        assert found[0].equal(found[1])


def test_splits_that_are_missing_are_made_as_in_folders(root, frame):
    frame["image"] = [path.split("/", 1)[1].replace("/", f"/{i}-") for i, path in enumerate(frame["image"])]
    for path, old in zip(frame["image"], sorted(root.rglob("*.png")), strict=True):
        (root / "all" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "all" / path).write_bytes(old.read_bytes())
    path = write(frame, root / "pets.csv")
    table = ImageTable(path, root / "all", split=None, val_fraction=0.3, test_fraction=0.2, seed=3)
    folder = ImageFolders(root / "all", 0.3, 0.2, 3)
    assert [table.split(s).files for s in ("train", "val", "test")] == [
        folder.split(s).files for s in ("train", "val", "test")
    ]
    partly = ImageTable(
        path, root / "all", names_of_splits={"train": "train", "test": "test"}, val_fraction=0.25
    )
    assert [len(partly.split(s)) for s in ("train", "val", "test")] == [8, 4, 5]


def test_groups_are_known_truth(root, frame, animals):
    images = ImageTable(write(frame, root / "pets.csv"), names=Names(groups=["place"])).split("val")
    values, truth = images.factors["place"]
    assert values == ["land", "water"]
    assert truth.tolist() == [{"land": 0, "water": 1, "": -1}[row["place"]] for row in animals.of("val")]


def test_numbers_are_places_among_given_classes_and_splits(root, frame):
    frame["y"] = (frame["label"] == "house_cat").astype("Int64")
    frame.loc[0, "y"] = pd.NA
    frame["split"] = frame["split"].map({"train": 0, "val": 1, "test": 2})
    splits = {"train": 0, "val": 1, "test": 2}
    for suffix in (".csv", ".parquet"):
        path = write(frame, root / f"pets{suffix}")
        names = Names(label="y", classes=["a dog", "a cat"])
        images = ImageTable(path, names=names, names_of_splits=splits).split("train")
        assert images.class_names == ["a dog", "a cat"]
        assert images.targets.tolist() == [-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_without_labels_classes_are_given(root, frame):
    path = write(frame, root / "pets.csv")
    images = ImageTable(path, names=Names(label=None, classes=["dog", "cat"])).split("val")
    assert images.targets.tolist() == [-1] * 7
    with pytest.raises(ValueError, match=r"data\.classes=\[NAME"):
        ImageTable(path, names=Names(label=None))


def test_missing_files_are_counted_and_the_first_ten_named(root, frame):
    path = write(frame, root / "pets.csv")
    for image in frame["image"][:11]:
        (root / image).unlink()
    with pytest.raises(FileNotFoundError, match=r"11 of 24 images of .*pets\.csv are not in") as caught:
        ImageTable(path)
    assert "\n  train/dog/00.png\n" in str(caught.value)
    assert "... and 1 more" in str(caught.value)
    assert "data.root=DIR" in str(caught.value)


def test_what_can_be_no_file_is_counted_like_a_missing_one(root, frame):
    frame.loc[[0, 1, 13], "image"] = ["train/\0.png", "x" * 5000, f"{frame['image'][2]}/b.png"]
    with pytest.raises(FileNotFoundError, match=r"3 of 24 images of .*pets\.csv are not in"):
        ImageTable(write(frame, root / "pets.csv"))


def changed(column, value, rows):
    def change(frame):
        frame.loc[rows, column] = value

    return change


WRONG = {
    "unknown classes": (changed("label", "owl", [13, 14, 20]), r"1 classes that .*\n  'owl', 3 rows"),
    "a misspelt class": (changed("label", "dgo", [13]), r"'dgo', 1 rows \(did you mean 'dog'\?\)"),
    "another split": (changed("split", "extra", [0, 1]), r"none of train, val and test:\n  'extra', 2 rows"),
    "no split": (changed("split", "", [0]), r"\n  none, 1 rows"),
    "no train": (changed("split", "fitting", slice(0, 11)), r"the splits .*none is train.*split_names"),
    "no image": (changed("image", "", [3, 5]), r"2 rows of .* have no image:\n  row 4\n  row 6"),
    "no rows": (lambda frame: frame.__init__(columns=frame.columns), "has no rows"),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(root, frame, fault, suffix):
    change, message = WRONG[fault]
    change(frame)
    with pytest.raises(ValueError, match=message):
        ImageTable(write(frame, root / f"pets{suffix}"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_unknown_columns_are_named(root, frame, suffix):
    path = write(frame, root / f"pets{suffix}")
    with pytest.raises(ValueError, match=r"'lable' \(did you mean 'label'\?\), 'weather'; it has "):
        ImageTable(path, names=Names(label="lable", groups=["weather", "place"]))


def test_empty_splits_are_named(root, frame):
    path = write(frame, root / "pets.csv")
    with pytest.raises(ValueError, match=r"the split 'holdout' is empty; there are train, val, test"):
        ImageTable(path, names_of_splits={"train": "train", "val": "holdout"})
    with pytest.raises(ValueError, match=r"are train, val and test, got validation"):
        ImageTable(path, names_of_splits={"validation": "val"})
    table = ImageTable(path, split=None, val_fraction=0)
    with pytest.raises(ValueError, match=r"the val split of .*pets\.csv is empty: raise data\.val_fraction"):
        table.split("val")


@pytest.mark.parametrize(("name", "error"), [("none.csv", FileNotFoundError), ("pets.txt", ValueError)])
def test_what_is_no_table(root, name, error):
    (root / "pets.txt").write_text("image,label")
    with pytest.raises(error, match=r"\.csv, \.tsv or \.parquet"):
        ImageTable(root / name)


def test_parquet_without_pyarrow(root, frame, monkeypatch):
    path = write(frame, root / "pets.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[datasets\]'"):
        ImageTable(path)


def test_columns_of_numbers_and_nulls():
    column = Column.of(pd.Series([10, 9, None, 10], dtype="Int64"))
    assert column.factor()[0] == ["9", "10"]
    assert column.factor()[1].tolist() == [1, 0, -1, 1]
    assert column.take(np.array([2, 3])).values == ["10"]
    assert column.take(np.array([2, 3])).codes.tolist() == [-1, 0]
    assert column.count("10") == 2
    with pytest.raises(ValueError, match="'9', 1 rows"):
        column.indices(["10", "11"], None, "x.csv")
    assert column.indices([str(i) for i in range(11)], None, "x.csv").tolist() == [10, 9, -1, 10]


def test_a_label_is_no_place_unless_classes_are_given():
    with pytest.raises(ValueError, match="'0', 1 rows"):
        Column.of(["0", "7"]).indices(["7", "8"], None, "x.csv")
    names = ["7", "8"]
    with pytest.raises(ValueError, match="'0', 1 rows"):  # a place, or another class? nobody knows
        Column.of(["0", "7"]).indices(names, names, "x.csv")


@pytest.mark.parametrize(("n", "expected"), [(2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_a_class_of_three_gives_one_to_every_split(n, expected):
    keys = [f"{i}.png" for i in range(n)]
    parts = stratified_split(keys, [0] * n, {"val": 0.1, "test": 0.1}, seed=0)
    assert tuple(len(parts[name]) for name in ("train", "val", "test")) == expected


@pytest.mark.parametrize("rows", [False, True])
def test_the_dealing_is_by_class_and_by_hash(rows):
    labels = np.array([0] * 50 + [1] * 30 + [-1] * 20)
    keys = np.arange(100) if rows else [f"{i}.png" for i in range(100)]
    parts = stratified_split(keys, labels, {"val": 0.2, "test": 0.1}, seed=1)
    assert sorted(np.concatenate([*parts.values()])) == [*range(100)]
    assert torch.bincount(torch.from_numpy(labels[parts["val"]] + 1)).tolist() == [4, 10, 6]
    order = np.random.default_rng(0).permutation(100)
    shuffled = keys[order] if rows else [keys[i] for i in order]
    again = stratified_split(shuffled, labels[order], {"val": 0.2, "test": 0.1}, seed=1)
    assert sorted(order[again["val"]]) == parts["val"].tolist()
    other = stratified_split(keys, labels, {"val": 0.2, "test": 0.1}, seed=2)
    assert other["val"].tolist() != parts["val"].tolist()


def test_captions_follow_their_images(root, frame):
    """Whatever the order of the rows; those of the train split are no labels."""
    said = [f"seen at {i}" for i in range(len(frame))]
    frame = frame.assign(text=["", *said[1:]]).sample(frac=1, random_state=0)
    table = ImageTable(write(frame, root / "pets.csv"), caption="text")
    by_path = dict(zip(frame["image"], frame["text"], strict=True))
    for split in ("val", "test"):
        images = table.split(split)
        assert captions_of(images) == [by_path[file.path] for file in images.files]
        assert images.vocabulary == list(
            dict.fromkeys([*images.class_names, *filter(None, captions_of(images))])
        )
    assert captions_of(table.split("train")) == []
