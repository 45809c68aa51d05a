"""Hugging Face data sets from real files: whatever the format, the same images as a folder of them."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature

from lightning_sae.clip import HookPoint
from lightning_sae.data import (
    ActivationStore,
    HuggingFaceImages,
    ImageFolders,
    capture_store,
    hook_folder,
)
from lightning_sae.data.columns import Names
from lightning_sae.data.shards import read_tensor

CLS = HookPoint("visual.transformer.resblocks.1", "cls")
SPLITS = ("train", "val", "test")
TAR = {"image": "png", "label": "cls", "classes": ["dog", "house cat"]}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def columns(
    rows, labels=("dog", "house_cat"), image=lambda row: {"bytes": row["bytes"], "path": row["image"]}
):
    features = Features(
        image=ImageFeature(),
        label=ClassLabel(names=list(labels)),
        place=Value("string"),
        text=Value("string"),
    )
    content = {
        "image": [image(row) for row in rows],
        "label": [labels.index(row["label"]) for row in rows],
        "place": [row["place"] or None for row in rows],
        "text": [f"picture {i % 3}" for i in range(len(rows))],
    }
    return Dataset.from_dict(content, features=features)


def written(animals, root, kind):
    """A data set on the disk: what `data.path` is, and what the columns are called."""
    root.mkdir()
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
            assert np.array_equal(np.asarray(part[i]), np.asarray(decoded(rows[i]["bytes"])))


def decoded(content):
    from lightning_sae.data.bad_images import decode

    return decode(content, "")


@pytest.mark.parametrize(("kind", "streaming"), [("tar", True), ("parquet files", True), ("saved", False)])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_store_is_that_of_the_folder(source, animals, clip, tmp_path, kind, streaming, num_workers):
    animals.write_folder(tmp_path / "folder")
    folder = ImageFolders(tmp_path / "folder").split("train")
    settings = {"store_dir": tmp_path / "store", "batch_size": 3, "shard_images": 6}
    wanted = capture_store(folder, clip, [CLS], **settings)
    images = source(kind, streaming).split("train")
    found = capture_store(images, clip, [CLS], num_workers=num_workers, **settings)
    for part in ("embeddings", "targets"):
        assert read_tensor(found / "images", part).equal(read_tensor(wanted / "images", part))
    stores = [ActivationStore(hook_folder(path, CLS)) for path in (wanted, found)]
    assert stores[0].x.equal(stores[1].x)
    (hook_folder(found, CLS) / "000001.safetensors").unlink()
    capture_store(images, clip, [CLS], num_workers=num_workers, **settings)  # one shard alone
    assert ActivationStore(hook_folder(found, CLS)).x.equal(stores[0].x)


@pytest.mark.parametrize(("kind", "streaming"), KINDS)
def test_identity_follows_the_files_not_the_place(source, kind, streaming):
    known = [source(kind, streaming, f"{place}/data".split("/")[0]) for place in ("here",)]
    first = known[0].split("val").identity()
    assert first == source(kind, streaming, "there").split("val").identity() | {"name": first["name"]}
    assert first != known[0].split("test").identity()
