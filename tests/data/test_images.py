import gzip
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.data import FashionMNIST, ImageFolders, WorldImages


def paint(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade % 256, 0, 0)).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    for label, name in enumerate(("house_cat", "dog")):
        for i in range(10):
            paint(tmp_path / "pets" / name / f"{i}.png", 20 * label + i)
    return tmp_path / "pets"


def paths(source, split):
    return [file.path for file in source.split(split).files]


def test_classes_are_sorted_folders_and_splits_are_stratified(pets):
    source = ImageFolders(pets, val_fraction=0.2, test_fraction=0.3)
    assert source.split("val").class_names == ["dog", "house cat"]
    counts = {name: torch.bincount(source.split(name).targets).tolist() for name in ("train", "val", "test")}
    assert counts == {"train": [5, 5], "val": [2, 2], "test": [3, 3]}
    everything = [path for name in counts for path in paths(source, name)]
    assert len(set(everything)) == 20
    assert source.split("val")[0].size == (8, 8)


def test_the_split_depends_on_paths_and_seed_alone(pets, tmp_path):
    before = paths(ImageFolders(pets), "val")
    moved = pets.rename(tmp_path / "moved")
    assert before == paths(ImageFolders(moved), "val")
    assert before != paths(ImageFolders(moved, seed=1), "val")


def test_given_split_folders_are_used_and_missing_ones_carved(pets, tmp_path):
    root = tmp_path / "split"
    for name in ("train", "val"):
        for i in range(6):
            paint(root / name / "cat" / f"{i}.png", i)
    source = ImageFolders(root, test_fraction=0.5)
    assert all(path.startswith("val/") for path in paths(source, "val"))
    assert (len(source.split("train")), len(source.split("val")), len(source.split("test"))) == (3, 6, 3)
    paint(root / "val" / "owl" / "0.png")
    with pytest.raises(ValueError, match="classes that the train images lack: owl"):
        ImageFolders(root)


def test_identity_follows_the_files_not_the_place(pets, tmp_path):
    before = ImageFolders(pets).split("train").identity()
    (tmp_path / "deeper").mkdir()
    moved = pets.rename(tmp_path / "deeper" / "pets")
    assert ImageFolders(moved).split("train").identity() == before
    paint(moved / "dog" / "new.png")
    assert ImageFolders(moved).split("train").identity() != before


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p / "cat").mkdir(parents=True)]
)
def test_no_images_says_what_was_looked_for(tmp_path, make):
    make(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"one subfolder|one per class|looked for \.apng, \.avif, "):
        ImageFolders(tmp_path / "empty")


@pytest.mark.parametrize("fractions", [(-0.1, 0.1), (0.5, 0.5)])
def test_fractions_out_of_range(pets, fractions):
    with pytest.raises(ValueError, match="must be >= 0 and sum to less than 1"):
        ImageFolders(pets, *fractions)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder, compress, n=20):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        pictures = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", pictures), ("labels-idx1", np.arange(n, dtype=np.uint8) % 10)):
            content = gzip.compress(idx(array)) if compress else idx(array)
            (folder / f"{part}-{kind}-ubyte{'.gz' if compress else ''}").write_bytes(content)


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("compress", [True, False])
def test_fashion_mnist_in_both_layouts(tmp_path, place, compress):
    root = tmp_path / "data"
    write_fashion(root / place if place != "." else root, compress)
    source = FashionMNIST(root, n_val=5)
    train, val, test = (source.split(name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (15, 5, 20)
    assert (train.class_names[0], train.class_names[9], len(train.class_names)) == (
        "t-shirt",
        "ankle boot",
        10,
    )
    assert test.targets.tolist() == [*range(10)] * 2
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    picture = np.asarray(train[0])
    assert picture.shape == (28, 28, 3)
    assert any((picture[..., 0] == one).all() for one in first)
    assert sorted((*train.targets.tolist(), *val.targets.tolist())) == sorted([*range(10)] * 2)
    assert train.identity() != val.identity()


def test_fashion_mnist_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"looked for .*train-images-idx3-ubyte\.gz"):
        FashionMNIST(tmp_path)
    write_fashion(tmp_path / "data", compress=True)
    file = tmp_path / "data" / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        FashionMNIST(tmp_path / "data", n_val=5).split("test")
    file.write_bytes(gzip.compress(b"\x00\x00\x08\x03" + struct.pack(">3I", 20, 28, 28) + b"\x00" * 100))
    with pytest.raises(ValueError, match="is truncated: 100 bytes"):
        FashionMNIST(tmp_path / "data", n_val=5).split("test")
    with pytest.raises(ValueError, match=r"n_val must be in 1\.\.19, got 20"):
        FashionMNIST(tmp_path / "data", n_val=20).split("train")


def test_world_is_an_image_set():
    source = WorldImages("biased", n_train=6, n_val=4, n_test=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sets = [source.split(name) for name in ("train", "val", "test")]
    assert [len(images) for images in sets] == [6, 4, 3]
    images = sets[1]
    assert len(images.targets) == 4
    assert images.factors["class"][1].equal(images.targets)
    assert images[0].mode == "RGB"
    assert {*images.class_names} < {*images.vocabulary}
    assert sets[0].identity() != WorldImages("balanced", n_train=6).split("train").identity()
