"""Images that are in two splits: counted and named in every source, and refused above a limit."""

import os
from unittest.mock import patch

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from lightning_sae.data import ActivationDataModule, HuggingFaceImages, ImageFolders, ImageTable
from lightning_sae.data.images.contents import content_hash
from lightning_sae.data.images.copies import check_leaks
from lightning_sae.data.images.image_files import ImageFiles
from lightning_sae.data.sources.columns import Names


@pytest.fixture
def root(animals, tmp_path):
    animals.write_folder(tmp_path / "pets")
    return tmp_path / "pets"


def copy(root):
    (root / "val/dog/copy.png").write_bytes((root / "train/dog/01.png").read_bytes())
    return ImageFolders(root)


def hard_link(root):
    os.link(root / "train/dog/01.png", root / "val/dog/copy.png")
    return ImageFolders(root)


def link_to_one_elsewhere(root):
    other = (root / "train/dog/01.png").rename(root.parent / "one.png")
    for link in ("train/dog/01.png", "val/dog/copy.png"):
        os.symlink(other, root / link)
    return ImageFolders(root)


def table(path):
    def table(root):
        files = [*sorted(each.relative_to(root).as_posix() for each in root.rglob("*.png")), path]
        rows = [(each, "dog" if "dog" in each else "cat", each.split("/")[0]) for each in files]
        frame = pd.DataFrame(rows, columns=["image", "label", "split"])
        frame.loc[len(frame) - 1, "split"] = "val"
        frame.to_csv(root / "pets.csv", index=False)
        return ImageTable(root / "pets.csv")

    return table


def saved(root):
    def content(split):
        files = sorted((root / split).rglob("*.png"))
        files += [root / "train/dog/01.png"] if split == "val" else []
        return {
            "image": [{"bytes": each.read_bytes(), "path": None} for each in files],
            "label": ["pet"] * len(files),
        }

    features = Features(image=ImageFeature(), label=Value("string"))
    parts = {
        split: Dataset.from_dict(content(split), features=features) for split in ("train", "val", "test")
    }
    DatasetDict(parts).save_to_disk(root.parent / "saved")
    return HuggingFaceImages(str(root.parent / "saved"), Names())


def image_folder(root):
    copy(root)
    return HuggingFaceImages(str(root), Names(), cache_dir=root.parent / "cache")


SOURCES = {
    "a copy": copy,
    "a hard link": hard_link,
    "a link to one elsewhere": link_to_one_elsewhere,
    "the same path": table("train/dog/01.png"),
    "another path": table("./train/dog/01.png"),
    "a way round": table("val/../train/dog/01.png"),
    "rows": saved,
    "a folder read by datasets": image_folder,
}


def made(source, clip, judge, store, **settings):
    data = ActivationDataModule(
        source,
        clip,
        "visual.transformer.resblocks.1",
        judge=judge,
        store_dir=str(store),
        n_probe=4,
        **settings,
    )
    data.check()
    return data


@pytest.mark.parametrize("kind", SOURCES)
def test_leaks_are_named_and_refused_above_a_limit(kind, root, clip, judge, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    source = SOURCES[kind](root)
    with pytest.raises(ValueError, match=r"^1 of 8 val images are in train as well:\n  .*\n") as caught:
        made(source, clip, judge, tmp_path / "store")
    assert (
        "row " in str(caught.value)
        or "train/dog/01.png" in str(caught.value)
        or "01.png" in str(caught.value)
    )
    assert "data.max_leaks" in str(caught.value)
    for limit in (1, 0.13):
        with pytest.warns(UserWarning, match="1 of 8 val images are in train as well"):
            made(source, clip, judge, tmp_path / "store", max_leaks=limit)
    with pytest.raises(ValueError, match="1 of 8 val"):
        made(source, clip, judge, tmp_path / "store", max_leaks=0.12)


def test_without_leaks_nothing_is_said(root, clip, judge, tmp_path, recwarn):
    made(ImageFolders(root), clip, judge, tmp_path)
    assert not [each for each in recwarn if "as well" in str(each.message)]


def test_broken_files_that_are_alike_are_no_leaks(root, clip, judge, tmp_path, recwarn):
    for split in ("train", "val"):
        (root / split / "dog/00.png").write_bytes(b"<html>404</html>")
    made(ImageFolders(root), clip, judge, tmp_path)
    assert not [each for each in recwarn if "as well" in str(each.message)]


def test_equal_hashes_of_other_bytes_are_no_leaks(root):
    """The hash of a large file sees some of its blocks."""
    train, val = (ImageFolders(root).split(split) for split in ("train", "val"))
    for images in (train, val):
        images.contents = lambda images=images: ["same"] * len(images)
    check_leaks({"train": train, "val": val}, 0)


def test_test_images_are_looked_at_when_they_are_captured(root, clip, judge, tmp_path):
    (root / "test/dog/copy.png").write_bytes((root / "val/dog/00.png").read_bytes())
    data = made(ImageFolders(root), clip, judge, tmp_path)
    with pytest.raises(
        ValueError, match=r"1 of 6 test images are in val as well:\n  test/dog/copy.png is val/"
    ):
        data.capture("test")


def test_a_negative_limit(root, clip, judge, tmp_path):
    with pytest.raises(ValueError, match=r"data\.max_leaks must be a count >= 0 .*, got -1"):
        made(ImageFolders(root), clip, judge, tmp_path, max_leaks=-1)


def test_other_images_with_equal_hashes_are_dealt_apart(root):
    plain = ImageFolders(root / "train", val_fraction=0.3, test_fraction=0.2)
    with patch.object(ImageFiles, "contents", lambda images: ["same"] * len(images)):
        assert ImageFolders(root / "train", val_fraction=0.3, test_fraction=0.2)._files == plain._files


@pytest.mark.parametrize("kind", ["folder", "table", "saved"])
def test_large_pictures_that_differ_where_no_hash_looks_are_no_copies(kind, tmp_path):
    """A small object on black; the third and the fourth are copies."""
    for i, colour in enumerate([0, 1, 2, 2, *range(3, 19)]):
        picture = Image.new("RGB", (224, 224))
        picture.paste((255, colour, 0), (50, 165, 70, 183))
        (tmp_path / "owl").mkdir(exist_ok=True)
        picture.save(tmp_path / "owl" / f"{i:02d}.bmp")
    files = sorted((tmp_path / "owl").iterdir())
    assert len({content_hash(file) for file in files}) == 1
    settings = {"val_fraction": 0.3, "test_fraction": 0.2}
    if kind == "folder":
        source = ImageFolders(tmp_path, **settings)
    elif kind == "table":
        rows = [(f"owl/{file.name}", "owl") for file in files]
        pd.DataFrame(rows, columns=["image", "label"]).to_csv(tmp_path / "owls.csv", index=False)
        source = ImageTable(tmp_path / "owls.csv", split=None, **settings)
    else:
        content = {"image": [file.read_bytes() for file in files], "label": ["owl"] * len(files)}
        Dataset.from_dict(content).save_to_disk(tmp_path / "saved")
        source = HuggingFaceImages(str(tmp_path / "saved"), Names(), **settings)
    splits = {split: source.split(split) for split in ("train", "val", "test")}
    sizes = [len(images) for images in splits.values()]
    assert sum(sizes) == 20
    assert max(abs(size - wanted) for size, wanted in zip(sizes, (10, 6, 4), strict=True)) <= 1
    check_leaks(splits, 0)


@pytest.mark.parametrize("kind", ["table", "saved"])
def test_copies_are_dealt_into_one_split(kind, root, animals, tmp_path):
    files = sorted(root.rglob("*.png"))
    if kind == "table":
        rows = [(each.relative_to(root).as_posix(), "pet") for each in files]
        rows += [(f"./{path}", label) for path, label in rows]
        pd.DataFrame(rows, columns=["image", "label"]).to_csv(root / "pets.csv", index=False)
        source = ImageTable(root / "pets.csv", split=None, val_fraction=0.3, test_fraction=0.2)
    else:
        content = [{"bytes": each.read_bytes(), "path": None} for each in [*files, *files]]
        features = Features(image=ImageFeature(), label=Value("string"))
        pets = Dataset.from_dict({"image": content, "label": ["pet"] * len(content)}, features=features)
        pets.save_to_disk(tmp_path / "saved")
        source = HuggingFaceImages(str(tmp_path / "saved"), Names(), val_fraction=0.3, test_fraction=0.2)
    splits = {split: source.split(split) for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == 2 * len(files)
    seen = {split: {images.encoded(i)[0] for i in range(len(images))} for split, images in splits.items()}
    assert sum(map(len, seen.values())) == len(files)
    check_leaks(splits, 0)
