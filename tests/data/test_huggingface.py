"""Hugging Face data sets from real files: whatever the format, the same images as a folder of them."""

import os
import sys
import tarfile
import zipfile

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature

from lightning_sae.clip import HookPoint
from lightning_sae.data import (
    ActivationStore,
    BadImageError,
    HuggingFaceImages,
    ImageFolders,
    capture_store,
    hook_folder,
)
from lightning_sae.data.images.decoding import decode
from lightning_sae.data.images.image_set import captions_of
from lightning_sae.data.sources.columns import Names
from lightning_sae.data.sources.huggingface.stream import index_stream
from lightning_sae.data.store.shards import read_tensor

CLS = HookPoint("visual.transformer.resblocks.1", "cls")
SPLITS = ("train", "val", "test")
TAR = {"image": "png", "label": "cls", "classes": ["dog", "house cat"]}
FEATURES = Features(
    image=ImageFeature(),
    label=ClassLabel(names=["dog", "house_cat"]),
    place=Value("string"),
    text=Value("string"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def columns(rows):
    content = {
        "image": [{"bytes": row["bytes"], "path": row["image"]} for row in rows],
        "label": [int(row["label"] == "house_cat") for row in rows],
        "place": [row["place"] or None for row in rows],
        "text": [f"picture {i % 3}" for i in range(len(rows))],
    }
    return Dataset.from_dict(content, features=FEATURES)


def written(animals, root, kind):
    """A data set on the disk: what `data.path` is, and what the columns are called."""
    root.mkdir(parents=True)
    if kind == "folder":
        animals.write_folder(root)
        return str(root), {}
    if kind == "tar":
        for split in SPLITS:
            rows = animals.of(split)
            animals.write_tar(root / f"{split}-0.tar", rows[:4])
            animals.write_tar(root / f"{split}-1.tar", rows[4:])
        return {split: str(root / f"{split}-*.tar") for split in SPLITS}, TAR
    parts = {split: columns(animals.of(split)) for split in SPLITS}
    if kind == "saved":
        DatasetDict(parts).save_to_disk(root)
        return str(root), {}
    for split, part in parts.items():
        for i in range(2):
            half = part.shard(2, i, contiguous=True)
            half.to_parquet(root / f"{split}-{i:05d}-of-00002.parquet", batch_size=3)
    if kind == "parquet folder":
        return str(root), {}
    return {split: str(root / f"{split}-*.parquet") for split in SPLITS}, {}


KINDS = [
    *(("folder", streaming) for streaming in (False, True)),
    *(("parquet folder", streaming) for streaming in (False, True)),
    ("parquet files", True),
    *(("tar", streaming) for streaming in (False, True)),
    ("saved", False),
]


@pytest.fixture
def source(animals, tmp_path):
    def source(kind="parquet folder", streaming=False, root="data", names=None, **settings):
        path, own = written(animals, tmp_path / root, kind)
        names = Names(**{**own, **(names or {})})
        return HuggingFaceImages(path, names, streaming=streaming, cache_dir=tmp_path / "cache", **settings)

    return source


@pytest.mark.parametrize(("kind", "streaming"), KINDS)
def test_the_images_are_those_of_the_folder(source, animals, kind, streaming):
    images = source(kind, streaming)
    for split in SPLITS:
        part, rows = images.split(split), animals.of(split)
        assert part.class_names == ["dog", "house cat"]
        assert part.targets.tolist() == [int(row["label"] == "house_cat") for row in rows]
        for i in [*range(len(rows)), 3, 0, len(rows) - 1]:  # in order, and back
            assert np.array_equal(np.asarray(part[i]), np.asarray(decode(rows[i]["bytes"], "")))


def test_a_blank_name_of_a_class_is_refused(animals, tmp_path):
    data = columns(animals.of("train")).cast_column("label", ClassLabel(names=["dog", "_"]))
    data.save_to_disk(tmp_path / "pets")
    with pytest.raises(ValueError, match=r"the train split of .*, 'label' has a blank in 1: '_'"):
        HuggingFaceImages(str(tmp_path / "pets"), Names()).split("train")


@pytest.mark.parametrize("kind", ["saved", "folder"])  # with a ClassLabel, and by names
def test_classes_are_called_as_the_user_says(source, animals, kind):
    images = source(kind, names={"classes": {"house_cat": "a cat", "dog": "a dog"}}).split("val")
    assert images.class_names == ["a cat", "a dog"]
    assert images.targets.tolist() == [int(row["label"] == "dog") for row in animals.of("val")]
    with pytest.raises(ValueError, match=r"'house_cat', \d+ rows"):
        source(kind, root="other", names={"classes": {"dog": "a dog", "cat": "a cat"}}).split("val")


@pytest.mark.parametrize(
    ("kind", "streaming", "num_workers"), [("tar", True, 2), ("parquet files", True, 0), ("saved", False, 2)]
)
def test_the_store_is_that_of_the_folder(source, animals, clip, tmp_path, kind, streaming, num_workers):
    animals.write_folder(tmp_path / "folder")
    folder = ImageFolders(tmp_path / "folder").split("train")
    settings = {"store_dir": tmp_path / "store", "batch_size": 3, "shard_images": 6}
    wanted = capture_store(folder, clip, [CLS], num_workers=0, **settings)
    images = source(kind, streaming).split("train")
    found = capture_store(images, clip, [CLS], num_workers=num_workers, **settings)
    for part in ("embeddings", "targets"):
        assert read_tensor(found / "images", part).equal(read_tensor(wanted / "images", part))
    x = ActivationStore(hook_folder(wanted, CLS)).rows(0, len(images))
    assert ActivationStore(hook_folder(found, CLS)).rows(0, len(images)).equal(x)
    (hook_folder(found, CLS) / "000001.safetensors").unlink()
    capture_store(images, clip, [CLS], num_workers=0, **settings)  # one shard alone
    assert ActivationStore(hook_folder(found, CLS)).rows(0, len(images)).equal(x)


@pytest.mark.parametrize(("kind", "streaming"), [("folder", False), ("tar", True), ("saved", False)])
def test_identity_follows_the_files_not_the_place(source, tmp_path, kind, streaming):
    here = source(kind, streaming)
    known = {split: here.split(split).identity() for split in SPLITS}
    assert len({str(one) for one in known.values()}) == 3
    (tmp_path / "data").rename(tmp_path / "old")
    there = source(kind, streaming, "deeper/data")
    for split in SPLITS:
        assert there.split(split).identity() | {"name": ""} == known[split] | {"name": ""}


@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_known_of_the_rows(source, animals, streaming):
    images = source(streaming=streaming, names={"groups": ["place"]}, caption="text")
    val = images.split("val")
    values, truth = val.factors["place"]
    assert [values[i] if i >= 0 else "" for i in truth] == [row["place"] for row in animals.of("val")]
    assert val.vocabulary == ["dog", "house cat", "picture 0", "picture 1", "picture 2"]
    assert captions_of(val) == [f"picture {i}" for i in (0, 1, 2, 0, 1, 2, 0)]
    given = source(root="other", names={"classes": ["a dog", "a cat"]}).split("val")
    assert given.class_names == ["a dog", "a cat"]
    assert captions_of(given) == []
    assert given.targets.equal(val.targets)


@pytest.mark.parametrize("streaming", [False, True])
def test_classes_are_values_where_nothing_names_them(source, streaming):
    images = source(streaming=streaming, names={"label": "text"})
    assert images.split("train").class_names == ["picture 0", "picture 1", "picture 2"]
    assert images.split("val").targets.tolist() == [0, 1, 2, 0, 1, 2, 0]
    few = {"label": "text", "classes": ["picture 0", "picture 1"]}
    with pytest.raises(
        ValueError, match=r"the val\w* split of .* has 1 classes that .*\n  'picture 2', 2 rows"
    ):
        source(root="b", streaming=streaming, names=few).split("val")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_missing_split_is_taken_from_the_rows_of_train(source, streaming):
    names = {"train": "train", "test": "test"}
    parts = [
        source(root=root, streaming=streaming, names_of_splits=names, val_fraction=0.34, seed=seed)
        for root, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    rows = [[part.split(split).rows.tolist() for split in ("train", "val")] for part in parts]
    assert sorted(rows[0][0] + rows[0][1]) == [*range(12)]
    assert parts[0].split("val").targets.bincount().tolist() == [2, 2]
    assert rows[0] == rows[1] != rows[2]
    assert parts[0].split("val").identity() != parts[2].split("val").identity()
    assert len(parts[0].split("test")) == 5


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_pictures_name_their_row(animals, tmp_path, streaming):
    content = [{"bytes": row["bytes"], "path": row["image"]} for row in animals.of("train")]
    content[2], content[5] = None, {"bytes": b"no picture", "path": "DIR/5.png"}
    features = Features(image=ImageFeature(), label=FEATURES["label"])
    path = str(tmp_path / "train.parquet")
    Dataset.from_dict({"image": content, "label": [0] * 12}, features=features).to_parquet(path)
    images = HuggingFaceImages(path, streaming=streaming, cache_dir=tmp_path, val_fraction=0, test_fraction=0)
    part = images.split("train")
    with pytest.raises(BadImageError, match=r"^row 2: no image$"):
        part[2]
    with pytest.raises(BadImageError, match=r"^row 5 \(5\.png\): not an image file"):
        part[5]
    assert part[6].size == (16, 16)


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_that_rows_name_are_files_or_on_known_servers(animals, tmp_path, streaming):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").write_bytes(animals.rows[0]["bytes"])
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    whole = [f"{tmp_path}/a.png", f"file://{tmp_path}/a.png", f"zip://a.png::{tmp_path}/a.zip"]
    bad = {
        f"file://{tmp_path}/pipe": "a pipe, not a file",
        f"local://{tmp_path}/pipe": "neither a file nor on one of hf, http",
        f"zip://a.png::{tmp_path}/pipe": "neither a file nor on one of hf, http",
        f"zip://a.png::{tmp_path}/cut.zip": "cannot be read",
    }
    content = {"image": [{"bytes": None, "path": path} for path in [*whole, *bad]]}
    path = str(tmp_path / "train.parquet")
    Dataset.from_dict(content, features=Features(image=ImageFeature())).to_parquet(path, batch_size=10)
    settings = {"streaming": streaming, "cache_dir": tmp_path, "val_fraction": 0, "test_fraction": 0}
    part = HuggingFaceImages(path, Names(label=None, classes=["dog"]), **settings).split("train")
    for row in range(len(whole)):
        assert part.encoded(row)[0] == animals.rows[0]["bytes"]
    for row, said in enumerate(bad.values(), len(whole)):
        with pytest.raises(BadImageError, match=said):
            part[row]


def test_a_stream_is_read_on_and_opened_only_to_go_elsewhere(source, monkeypatch):
    part = source("tar", True).split("train")
    stream, opened = type(part.part.pictures), []
    open_file = stream._open
    monkeypatch.setattr(stream, "_open", lambda self, row: opened.append(row) or open_file(self, row))
    for row in (0, 1, 3, 4, 9, 11, 10):
        part[row]
    assert opened == [0, 4, 10]


def test_an_index_goes_on_where_it_was_killed(source, tmp_path, monkeypatch):
    stream = source("tar", True)._opened.splits["train"]
    shard, read = type(stream).shard, []

    def killed(self, *arguments, **settings):
        read.append(settings["index"])
        if len(read) == 2:
            raise KeyboardInterrupt
        return shard(self, *arguments, **settings)

    monkeypatch.setattr(type(stream), "shard", killed)
    with pytest.raises(KeyboardInterrupt):
        index_stream(tmp_path / "index", lambda: stream, ["cls"], "pets")
    table, counts = index_stream(tmp_path / "index", lambda: stream, ["cls"], "pets")
    assert (read, counts) == ([0, 1, 1], [4, 8])
    assert table["cls"].to_pylist() == [0] * 6 + [1] * 6
    index_stream(tmp_path / "index", lambda: stream, ["cls"], "pets")
    assert len(read) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"image": "img"}, r"no column 'img' \(did you mean 'image'\?\); it has image, label"),
        ({"image": "text"}, r"'text' of the train split .* holds .*string.*, not images; these do: image"),
        ({"classes": ["dog"]}, r"data\.classes must name the 2 of label, got 1"),
    ],
)
def test_what_is_wrong_with_the_columns_is_named(source, names, message):
    with pytest.raises(ValueError, match=message):
        source(names=names).split("train")


def test_what_is_wrong_with_the_files_is_named(tmp_path):
    for name in ("a.parquet", "b.tar", "c.pkl"):
        (tmp_path / name).touch()
    for path, error, message in (
        (str(tmp_path / "none"), FileNotFoundError, r"data\.path: no folder"),
        (str(tmp_path / "*.png"), FileNotFoundError, r"no file matches .*\*\.png"),
        (str(tmp_path / "c.pkl"), ValueError, r"files of one of \.parquet, \.arrow, \.tar, got \.pkl"),
        ({"train": [str(tmp_path / "*.*")]}, ValueError, r"got \.parquet, \.pkl, \.tar"),
    ):
        with pytest.raises(error, match=message):
            HuggingFaceImages(path)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("kind", "ending"), [("tar", "tar"), ("parquet files", "parquet")])
def test_damaged_files_are_named(animals, tmp_path, kind, ending, streaming):
    written(animals, tmp_path / "data", kind)
    path = next((tmp_path / "data").glob(f"train*.{ending}"))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read \(.*\): fetch what is damaged"):
        HuggingFaceImages(str(path), Names(), streaming=streaming, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "state.json"])
def test_a_damaged_saved_data_set_is_named(animals, tmp_path, name):
    written(animals, tmp_path / "data", "saved")
    (tmp_path / "data" / "train" / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=r"data\.path: .*/data cannot be read \(.*\): fetch what is damaged"):
        HuggingFaceImages(str(tmp_path / "data"))


def test_a_file_that_is_cut_off_far_inside_is_counted(source, tmp_path):
    images, path = source("tar", True), tmp_path / "data" / "train-1.tar"
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data
    os.truncate(path, end + 1)
    with pytest.raises(ValueError, match=r"^file 2 of the 2 of the data set cannot be read \("):
        images.split("train")


def test_other_readers_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("image,label\n1,2\n")
    with pytest.raises(ValueError, match="is read as csv; images are read as arrow, imagefolder, parquet"):
        HuggingFaceImages(str(tmp_path))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[datasets\]'"):
        HuggingFaceImages("any")
