"""Tables as they are downloaded: ids for paths, codes for classes, several pictures of one lesion."""

from itertools import chain

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lightning_sae.data import ImageTable
from lightning_sae.data.sources.columns import Column, Names, class_names
from lightning_sae.data.sources.grouped_splits import check_together, split_together, units_of

CODES = {"mel": "melanoma", "nv": "nevus", "bkl": "benign keratosis"}
FILES = "HAM10000_images_part_*/{}.jpg"
NAMES = Names("image_id", "dx", ["sex"], CODES)


@pytest.fixture
def frame():
    """60 lesions with one to three pictures each."""
    rng = np.random.default_rng(0)
    rows = []
    for lesion in range(60):
        for _ in range(rng.integers(1, 4)):
            known = {"lesion_id": f"HAM_{lesion:07d}", "image_id": f"ISIC_{24306 + len(rows):07d}"}
            rows.append({**known, "dx": [*CODES][lesion % 3], "sex": ("male", "female", "")[lesion % 3]})
    return pd.DataFrame(rows)


@pytest.fixture
def write(frame, tmp_path):
    def write(name="HAM10000_metadata.csv"):
        for i, image in enumerate(frame["image_id"]):
            path = tmp_path / FILES.replace("*", str(1 + i % 2)).replace("{}", image)
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (2, 2), (i, 0, 0)).save(path)
        frame.to_csv(tmp_path / name, index=False, sep="," if name.endswith(".csv") else "\t")
        return tmp_path / name

    return write


def opened(path, **arguments):
    return ImageTable(
        path, **{"names": NAMES, "split": None, "files": FILES, "val_fraction": 0.2} | arguments
    )


def images_of(table):
    """Split -> ids of its images, in the order of their paths."""
    return {
        name: [file.path.split("/")[1].removesuffix(".jpg") for file in table.split(name).files]
        for name in ("train", "val", "test")
    }


@pytest.mark.parametrize("name", ["HAM10000_metadata.csv", "HAM10000_metadata.tab"])
def test_ids_are_found_in_any_folder_and_codes_are_named(frame, write, name):
    table = opened(write(name))
    assert table.class_names == ["melanoma", "nevus", "benign keratosis"]
    found = images_of(table)
    assert sorted(chain(*found.values())) == sorted(frame["image_id"])
    dx = frame.set_index("image_id")["dx"]
    val = table.split("val")
    assert {file.path.split("/")[0] for file in val.files} == {
        "HAM10000_images_part_1",
        "HAM10000_images_part_2",
    }
    assert [val.class_names[i] for i in val.targets] == [CODES[dx[image]] for image in found["val"]]
    values, sex = val.factors["sex"]
    assert values == ["female", "male"]
    assert sex.tolist() == [
        {"male": 1, "female": 0}.get(frame.set_index("image_id")["sex"][i], -1) for i in found["val"]
    ]


def test_a_pattern_without_a_star_is_a_name(write, tmp_path):
    path = write()
    for part in (1, 2):
        for image in (tmp_path / f"HAM10000_images_part_{part}").iterdir():
            image.rename(tmp_path / f"im-{image.name}")
    assert len(opened(path, files="im-{}.jpg").split("train").files) > 0


def test_no_lesion_is_in_two_splits(frame, write):
    lesion = frame.set_index("image_id")["lesion_id"]
    parted, whole = (images_of(opened(write(), together=column)) for column in (None, "lesion_id"))

    def lesions(found):
        return {name: {lesion[image] for image in images} for name, images in found.items()}

    def overlap(found):
        a, b, c = lesions(found).values()
        return len(a & b) + len(a & c) + len(b & c)

    assert overlap(parted) > 0
    assert overlap(whole) == 0
    assert {name: len(part) for name, part in lesions(whole).items()} == {"train": 42, "val": 12, "test": 6}
    assert sorted(chain(*whole.values())) == sorted(frame["image_id"])


def test_the_dealing_of_lesions_does_not_depend_on_order_or_folders(frame, write, tmp_path):
    def dealt():
        path = tmp_path / "HAM10000_metadata.csv"
        return {name: {*ids} for name, ids in images_of(opened(path, together="lesion_id")).items()}

    write()
    first = dealt()
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "HAM10000_metadata.csv", index=False)
    for image in (tmp_path / "HAM10000_images_part_2").iterdir():
        image.rename(tmp_path / "HAM10000_images_part_1" / image.name)
    assert dealt() == first


def test_splits_that_part_a_lesion_are_named(frame, write):
    frame["split"] = "train"
    twice = frame["lesion_id"].value_counts()
    lesion = twice[twice > 1].index[0]
    frame.loc[frame.index[frame["lesion_id"] == lesion][0], "split"] = "val"
    with pytest.raises(
        ValueError, match=rf"1 values of lesion_id in .* more than one split:\n  {lesion}: train, val"
    ):
        opened(write(), split="split", together="lesion_id")


def test_rows_without_a_lesion_stand_alone_and_the_class_is_the_most_frequent():
    column = Column.of(["a", "a", "a", "", "", "b"])
    units = units_of(column, [f"{i}.jpg" for i in range(6)])
    assert (units.names, units.of_row.tolist()) == (["a", "b", "3.jpg", "4.jpg"], [0, 0, 0, 2, 3, 1])
    labels = np.array([1, 0, 1, 1, 1, 0])
    dealt = split_together(
        units, labels, np.arange(6), {"val": 1 / 3}, seed=0
    )  # units of class 1: a, 3 and 4
    assert sum(len(rows) for rows in dealt.values()) == 6
    assert len({*units.of_row[dealt["val"]].tolist()} & {0, 2, 3}) == 1
    assert 5 in dealt["train"]
    check_together(units, dealt, "x")


def test_missing_and_ambiguous_images_are_named(frame, write, tmp_path):
    path = write()
    (tmp_path / "HAM10000_images_part_1" / "ISIC_0024306.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of .*\n  HAM10000_images_part_\*/ISIC_0024306\.jpg\n"):
        opened(path)
    both = tmp_path / "HAM10000_images_part_1" / "ISIC_0024307.jpg"
    both.write_bytes((tmp_path / "HAM10000_images_part_2" / "ISIC_0024307.jpg").read_bytes())
    with pytest.raises(
        ValueError, match=r"1 images have several files .*\n  ISIC_0024307: HAM10000_images_part_1/"
    ):
        opened(path)


@pytest.mark.parametrize("pattern", ["*.jpg", "{}/{}.jpg", "{}/image.jpg", "part/*{}.jpg", "/tmp/{}.jpg"])
def test_what_is_no_pattern(write, pattern):
    with pytest.raises(ValueError, match=r"data\.files must be a path"):
        opened(write(), files=pattern)


def test_codes_that_are_not_named(write):
    names = NAMES._replace(classes={"mel": "melanoma", "nv": "nevus", "bcl": "benign keratosis"})
    with pytest.raises(ValueError, match=r"'bkl', \d+ rows \(did you mean 'bcl'\?\)"):
        opened(write(), names=names)


def test_codes_go_before_names_and_may_share_one():
    codes = {"0": "one", "1": "zero", "2": "one", "one": "zero"}
    assert class_names(None, codes) == ["one", "zero"]
    column = Column.of(["0", "1", "2", "one", "zero"])
    assert column.indices(["one", "zero"], codes, "x.csv").tolist() == [0, 1, 0, 1, 1]
