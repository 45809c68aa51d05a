"""Folders as they come: names of splits, what archives and systems leave, links, classes in two spellings."""

import os
import unicodedata
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.data import ActivationDataModule, ImageFolders
from lightning_sae.runs.classifier import prompt_classifier


def paint(path, seed=0, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.as_posix().encode()])
    pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


def fill(root, *folders, n=3):
    for folder in folders:
        for i in range(n):
            paint(root / folder / f"{i}.png")
    return root


def opened(root, **settings):
    """Without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ImageFolders(root, **settings)


def paths(source, split):
    return [file.path for file in source.split(split).files]


def everything(source):
    """Paths of all splits, and the class of each."""
    parts = [source.split(split) for split in ("train", "val", "test") if source._files[split]]
    return {file.path: part.class_names[file.label] for part in parts for file in part.files}


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid"),
        ("train", "validation"),
        ("training", "dev"),
        ("Train", "Val"),
        ("TRAIN", "VALID"),
        ("training_set", "validation set"),
        ("train2017", "val2017"),
        ("trn", "val_images"),
        ("trainset", "dev"),
    ],
)
def test_splits_are_known_by_all_their_names(tmp_path, names):
    train, val = names
    fill(tmp_path, f"{train}/cat", f"{train}/dog", f"{val}/cat", f"{val}/dog")
    source = opened(tmp_path, test_fraction=0.4)
    assert source.split("train").class_names == ["cat", "dog"]
    assert paths(source, "val") == [f"{val}/{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
    assert all(path.startswith(f"{train}/") for path in paths(source, "train") + paths(source, "test"))


def test_train_and_test_alone_give_val_from_train(tmp_path):
    fill(tmp_path, "Train/cat", "Train/dog", "Test/cat", "Test/dog")
    source = opened(tmp_path, val_fraction=0.4)
    assert [len(source.split(split)) for split in ("train", "val", "test")] == [4, 2, 6]
    assert all(path.startswith("Test/") for path in paths(source, "test"))


MIXED = [
    (("train/cat", "val/cat", "extra/cat"), r"folders of splits \(train, val\) and 1 others:\n  extra\n"),
    (("train/cat", "owl"), r"folders of splits \(train\) and 1 others:\n  owl\n"),
    (("val/cat", "cat"), r"has the splits cat, val, and none is train"),
    (("val/cat", "test/cat"), r"none is train"),
    (("train/cat", "val/cat", "valid/cat"), r"several names for val: val, valid"),
    (("cat/train", "cat/val", "dog/train", "dog/val"), r"2 classes of .* have folders of splits in them"),
    (("a/cat", "a/dog", "b/cat", "b/dog"), r"2 folders of .* all have the folders cat, dog in .*:\n  a\n  b"),
]


@pytest.mark.parametrize(("folders", "message"), MIXED)
def test_mixtures_are_refused_with_what_was_seen(tmp_path, folders, message):
    with pytest.raises(ValueError, match=message):
        ImageFolders(fill(tmp_path, *folders))


def test_the_user_says_which_are_splits(tmp_path):
    fill(tmp_path, "train/cat", "val/cat", "extra/owl")
    source = opened(tmp_path, names_of_splits={"train": "train", "val": "val"}, test_fraction=0)
    assert {path.split("/")[0] for path in everything(source)} == {"train", "val"}
    assert source.split("val").class_names == ["cat"]
    with pytest.raises(ValueError, match="the split 'held out' is empty; there are extra, train, val"):
        ImageFolders(tmp_path, names_of_splits={"train": "train", "val": "held out"})


def test_a_train_may_be_a_class(tmp_path):
    source = opened(fill(tmp_path, "bus", "car", "train"), names_of_splits={})
    assert source.split("train").class_names == ["bus", "car", "train"]


@pytest.mark.parametrize("deep", ["data", "archive/data"])
def test_a_folder_around_the_classes_is_no_class(tmp_path, deep):
    fill(tmp_path, f"{deep}/cat", f"{deep}/dog", "__MACOSX/data/cat")
    with pytest.warns(UserWarning, match="the classes are taken from .*, the only folder in"):
        source = ImageFolders(tmp_path)
    assert source.split("train").class_names == ["cat", "dog"]
    assert all(path.startswith(f"{deep}/") for path in everything(source))


def test_a_folder_around_the_splits_is_no_class(tmp_path):
    fill(tmp_path, "data/Train/cat", "data/Valid/cat")
    with pytest.warns(UserWarning, match="the only folder in"):
        source = ImageFolders(tmp_path, test_fraction=0)
    assert paths(source, "val") == [f"data/Valid/cat/{i}.png" for i in range(3)]


@pytest.mark.parametrize("inner", [("images", "images"), ("train", "val"), ("a/b", "a/b")])
def test_a_folder_around_the_classes_of_each_split_is_no_class(tmp_path, inner):
    train, val = (f"{split}/{each}" for split, each in zip(("train", "val"), inner, strict=True))
    fill(tmp_path, f"{train}/cat", f"{train}/dog", f"{val}/cat", f"{val}/dog")
    with pytest.warns(UserWarning, match=rf"the classes are taken from:\n  .*/{train}\n  .*/{val}$"):
        source = ImageFolders(tmp_path, test_fraction=0)
    assert source.class_names == ["cat", "dog"]
    assert len(source.split("val")) == 6


def test_a_split_with_one_class_of_folders_is_not_entered(tmp_path):
    fill(tmp_path, "train/cat/big", "train/dog", "val/cat/big", "val/cat/small")
    source = opened(tmp_path, test_fraction=0)
    assert source.class_names == ["cat", "dog"]
    assert source.split("val").targets.tolist() == [0] * 6


def test_equal_folders_may_be_classes_if_the_user_says_so(tmp_path):
    source = opened(fill(tmp_path, "cat/left", "cat/right", "dog/left", "dog/right"), names_of_splits={})
    assert source.class_names == ["cat", "dog"]


def test_one_class_stays_one(tmp_path):
    assert opened(fill(tmp_path, "cat")).split("train").class_names == ["cat"]


@pytest.mark.parametrize(
    "junk",
    [
        *("__MACOSX", "@eaDir", ".ipynb_checkpoints", "#recycle", "$RECYCLE.BIN", "@Recycle", "#snapshot"),
        *("__pycache__", "thumbnails"),
    ],
)
def test_what_systems_leave_is_no_class_and_no_image(tmp_path, junk):
    fill(tmp_path, "cat", "dog", junk, f"cat/{junk}", f"dog/deep/{junk}")
    paint(tmp_path / "cat" / "._0.png")
    source = opened(tmp_path)
    assert source.split("train").class_names == ["cat", "dog"]
    assert len(everything(source)) == 6


def test_a_folder_without_a_name_is_no_class(tmp_path):
    fill(tmp_path, "train/cat", "train/dog", "train/_", "val/cat", "val/\u200b")
    with pytest.warns(UserWarning, match=r"the images in '(_|\\u200b)' of .* have no class: "):
        source = ImageFolders(tmp_path, test_fraction=0)
    assert source.class_names == ["cat", "dog"]
    assert [sorted(source.split(split).targets.tolist()) for split in ("train", "val")] == [
        [-1, -1, -1, 0, 0, 0, 1, 1, 1],
        [-1, -1, -1, 0, 0, 0],
    ]


def test_empty_folders_are_no_classes(tmp_path):
    fill(tmp_path, "train/cat", "train/dog", "val/cat")
    for name in ("train/owl", "val/owl", "train/bat/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    with pytest.warns(UserWarning, match=r"left out of .*:\n  (bat/.*\n  )?owl/, which has no images"):
        source = ImageFolders(tmp_path)
    assert source.split("val").class_names == ["cat", "dog"]


def test_images_beside_the_classes_are_counted(tmp_path):
    fill(tmp_path, "cat", "dog", ".")
    with pytest.warns(UserWarning, match=r"left out of .*:\n  3 images that lie in no folder of a class$"):
        assert len(everything(ImageFolders(tmp_path))) == 6


def test_a_class_that_only_val_has_is_refused(tmp_path):
    fill(tmp_path, "train/cat", "val/cat", "val/owl")
    (tmp_path / "train" / "owl").mkdir()
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="classes that the train images lack: owl"),
    ):
        ImageFolders(tmp_path)


@pytest.mark.parametrize(
    ("target", "link"),
    [(".", "train/cat/up"), ("train", "train/dog/up"), ("..", "val/cat/up"), ("/", "train/cat/all"),
     ("train/dog", "train/cat/more"), ("val", "train/cat/val"), ("train/cat", "train/cat/again")],
)  # fmt: skip
def test_a_link_to_what_is_there_gives_each_file_once(tmp_path, target, link):
    root = fill(tmp_path / "pets", "train/cat", "train/dog", "val/cat", "val/dog")
    plain = everything(ImageFolders(root, test_fraction=0))
    os.symlink((root / target).resolve(), root / link)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert everything(ImageFolders(root, test_fraction=0)) == plain
    assert len(plain) == 12


def test_links_in_circles_end(tmp_path):
    fill(tmp_path, "cat", "dog")
    for a, b in (("cat", "dog"), ("dog", "cat")):
        os.symlink(tmp_path / b, tmp_path / a / "other")
    with pytest.warns(UserWarning, match="6 files of .* are met again by links, and count once"):
        source = ImageFolders(tmp_path)
    assert everything(source) == {f"{name}/{i}.png": name for name in ("cat", "dog") for i in range(3)}


def test_links_to_files_elsewhere_are_followed(tmp_path):
    pool = fill(tmp_path / "pool", "a", "b")
    root = tmp_path / "pets"
    root.mkdir()
    os.symlink(pool / "a", root / "cat")
    (root / "dog").mkdir()
    for i in range(3):
        os.symlink(pool / "b" / f"{i}.png", root / "dog" / f"{i}.png")
    assert len(everything(opened(root))) == 6


def test_a_link_to_nothing_is_named(tmp_path):
    fill(tmp_path, "cat")
    os.symlink(tmp_path / "gone.png", tmp_path / "cat" / "9.png")
    with pytest.raises(FileNotFoundError, match=r"cat/9\.png is a link to a file that is not there"):
        ImageFolders(tmp_path)


def test_hard_links_in_a_class_count_once(tmp_path):
    fill(tmp_path, "cat", "dog")
    os.link(tmp_path / "cat" / "0.png", tmp_path / "cat" / "copy.png")
    with pytest.warns(UserWarning, match=r"1 files .*\n  cat/copy\.png"):
        assert len(everything(ImageFolders(tmp_path))) == 6


SPELLINGS = [
    ("hot_dog", "hot dog"), ("hot dog", "hot  dog"), ("cat ", "cat"),
    (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
    ("sealion\u200b", "sealion"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPELLINGS)
def test_two_spellings_of_a_class_are_one_with_a_word(tmp_path, names):
    fill(tmp_path, *(f"train/{name}" for name in names), "train/owl", f"val/{names[1]}", "val/owl")
    with pytest.warns(UserWarning, match="1 classes have several spellings, and are one each"):
        source = ImageFolders(tmp_path, test_fraction=0)
    name = unicodedata.normalize("NFC", names[1]).replace("  ", " ")
    assert source.split("val").class_names == sorted([name, "owl"])
    label = source.class_names.index(name)
    assert torch.bincount(source.split("train").targets)[label] == 6
    assert source.split("val").targets.tolist().count(label) == 3


def test_val_may_spell_a_class_otherwise(tmp_path):
    source = opened(fill(tmp_path, "train/hot_dog", "val/hot dog"), test_fraction=0)
    assert source.split("val").targets.tolist() == [0, 0, 0]


def test_classes_that_the_tokenizer_cannot_tell_are_refused(tmp_path, clip, judge):
    fill(tmp_path, "Cat", "cat", "owl")
    with pytest.raises(ValueError, match=r"1 sets of classes have the same prompts.*\n  'Cat', 'cat'\n"):
        ActivationDataModule(opened(tmp_path), clip, "visual.transformer.resblocks.1", judge=judge)


CODES = {"n01440764": "tench", "n01443537": "goldfish"}


def test_a_class_that_is_no_utf8_is_refused(tmp_path):
    paint(tmp_path / "owl" / "a.png")
    (tmp_path / "owl").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    paint(tmp_path / "owl" / "b.png")
    with pytest.raises(ValueError, match=r"the class 'caf\\udce9' .* no UTF-8: rename it"):
        ImageFolders(tmp_path)


def test_codes_get_names(tmp_path):
    fill(tmp_path, "mel", "nv")
    source = opened(tmp_path, classes={"nv": "melanocytic nevus", "mel": "melanoma"})
    assert source.class_names == ["melanocytic nevus", "melanoma"]
    assert {path[:2]: name for path, name in everything(source).items()} == {
        "nv": "melanocytic nevus",
        "me": "melanoma",
    }
    with pytest.raises(ValueError, match=r"'nv', 3 rows"):
        ImageFolders(tmp_path, classes={"mel": "melanoma", "df": "dermatofibroma"})
    assert opened(tmp_path, classes={"nv": "lesion", "mel": "lesion"}).class_names == ["lesion"]


def test_numbers_are_places_in_a_list(tmp_path):
    fill(tmp_path, *map(str, range(11)))
    names = [f"thing number {chr(97 + i)}" for i in range(11)]
    source = opened(tmp_path, classes=names)
    assert all(name == names[int(path.split("/")[0])] for path, name in everything(source).items())


def test_wordnet_ids_are_known(tmp_path):
    source = opened(fill(tmp_path, *CODES))
    assert source.class_names == [*CODES.values()]
    assert all(CODES[path.split("/")[0]] == name for path, name in everything(source).items())


def test_two_ids_of_one_name_are_one_class(tmp_path):
    fill(tmp_path, "n04355933", "n04356056", "n01440764")
    with pytest.warns(UserWarning, match="1 names of ImageNet .*\n  sunglasses: n04355933, n04356056"):
        source = ImageFolders(tmp_path)
    assert source.class_names == ["tench", "sunglasses"]


@pytest.mark.parametrize(
    ("names", "codes"),
    [(["C43.9", "D22"], 2), (["bkl", "nv", "melanoma"], 2), (["n99999999", "tench"], 1), (["0", "1"], 2),
     (["HAM_0001"], 1), (["class1", "label_3", "cls0", "id_0007", "category 1", "3f2aeb"], 6),
     (["NA", "None", "nan"], 3), (["facade", "class of 1984", "type"], 0),
     (["cat", "ox", "Boeing 737", "sky", "t-shirt", "猫", "7 up"], 0)],
)  # fmt: skip
def test_names_that_look_like_codes_get_a_word(tmp_path, clip, judge, names, codes):
    source = ImageFolders(fill(tmp_path, *names))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ActivationDataModule(source, clip, "visual.transformer.resblocks.1", judge=judge)
    said = [str(each.message) for each in caught if "look like codes" in str(each.message)]
    assert [line[:1] for line in said] == ([str(codes)] if codes else [])


def test_a_prompts_file_spells_classes_as_the_data_do(tmp_path, clip, judge):
    (tmp_path / "prompts.json").write_text('{"hot_dog": "a hot dog", " owl ": "an owl"}')
    source = opened(fill(tmp_path / "pets", "hot dog", "owl"))
    settings = {"judge": judge, "prompts_file": str(tmp_path / "prompts.json")}
    data = ActivationDataModule(source, clip, "visual.transformer.resblocks.1", **settings)
    assert data.prompts == [["a hot dog"], ["an owl"]]
    (tmp_path / "prompts.json").write_text('{"hot_dog": "a", "hot dog": "b", "owl": "c"}')
    with pytest.raises(ValueError, match="'hot_dog', 'hot dog'"):
        ActivationDataModule(source, clip, "visual.transformer.resblocks.1", **settings)


def test_endings_are_read_where_pillow_can_and_listed_where_not(tmp_path):
    fill(tmp_path, "cat", "dog")
    for name, kind in {"a.avif": "AVIF", "b.jp2": "JPEG2000", "c.jfif": "JPEG", "noending": "PNG"}.items():
        paint(tmp_path / "cat" / name, kind=kind)
    for name in ("x.heic", "y.heic", "notes.txt", "README"):
        (tmp_path / "cat" / name).write_text("text")
    message = r"4 files that Pillow does not read here as images: 2 \.heic, 1 README, 1 \.txt"
    with pytest.warns(UserWarning, match=message):
        source = ImageFolders(tmp_path, val_fraction=0, test_fraction=0)
    train = source.split("train")
    names = {file.path.split("/")[1] for file in train.files}
    assert names == {"0.png", "1.png", "2.png", "a.avif", "b.jp2", "c.jfif", "noending"}
    assert all(train[i].size == (4, 4) for i in range(len(train)))


def test_copies_are_dealt_into_one_split(tmp_path):
    fill(tmp_path, "cat", "dog", n=20)
    for i in range(20):
        (tmp_path / "cat" / f"copy {i}.png").write_bytes((tmp_path / "cat" / f"{i}.png").read_bytes())
    source = opened(tmp_path, val_fraction=0.3, test_fraction=0.2)
    where = {path: split for split in ("train", "val", "test") for path in paths(source, split)}
    assert all(where[f"cat/{i}.png"] == where[f"cat/copy {i}.png"] for i in range(20))
    assert {*where.values()} == {"train", "val", "test"}


def test_prompts_that_an_audit_is_given_are_told_apart(tmp_path, clip, judge):
    data = ActivationDataModule(
        opened(fill(tmp_path / "pets", "cat", "owl")), clip, "visual.transformer.resblocks.1", judge=judge
    )
    data.class_embeddings = torch.zeros(2, clip.embed_dim)
    (tmp_path / "prompts.json").write_text('{"Cat": "a photo of a Cat", "cat": "a photo of a cat"}')
    with pytest.raises(ValueError, match="1 sets of classes have the same prompts"):
        prompt_classifier(SimpleNamespace(data=data), str(tmp_path / "prompts.json"))


@pytest.mark.parametrize("root", ["\x1b[31mred", "."])
def test_a_warning_does_not_steer_the_terminal(tmp_path, root):
    fill(tmp_path, "\x1b[31mred/data/cat", "\x1b[31mred/data/owl")
    with pytest.warns(UserWarning, match=r"^[^\x1b]*\\x1b\[31mred[^\x1b]*$"):
        ImageFolders(tmp_path / root)
