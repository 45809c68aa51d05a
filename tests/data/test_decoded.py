"""data.decode=fast: JPEG files at a fraction of their size, in a store of their own."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.clip import HookPoint
from lightning_sae.data import ActivationDataModule, ImageFolders, hook_folder
from lightning_sae.data import __main__ as command
from lightning_sae.data.capture.precision import compare_decoding, relative_change
from lightning_sae.data.images.decoded import DecodedImages
from lightning_sae.data.store.shards import read_manifest, read_tensor

POINT = HookPoint("visual.transformer.resblocks.1", "cls")


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Splits of JPEG files of 200 x 150 pixels, of which 16 x 16 are asked for."""
    for split, n in {"train": 8, "val": 6, "test": 2}.items():
        for i in range(n):
            path = tmp_path / "pets" / split / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(200, 150, 10 * len(split) + i).save(path, quality=90)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("width", "height", "decoded"),
    [
        (200, 150, (50, 38)),  # a quarter; an eighth would have 25 x 19 of the 32 x 32
        (256, 256, (32, 32)),
        (255, 256, (64, 64)),
        (64, 1000, (32, 500)),
        (63, 1000, (63, 1000)),
        (20, 10, (20, 10)),
    ],
)
def test_it_is_decoded_at_the_smallest_size_that_is_twice_what_clip_takes(tmp_path, width, height, decoded):
    for suffix in ("jpg", "png"):
        path = tmp_path / suffix / "cat" / f"0.{suffix}"
        path.parent.mkdir(parents=True)
        picture(width, height).save(path)
        images = ImageFolders(tmp_path / suffix, 0, 0).split("train")
        assert DecodedImages(images, (16, 16))[0].size == (decoded if suffix == "jpg" else (width, height))
        assert images[0].size == (width, height)


def test_height_and_width_are_not_mixed_up(folder):
    images = ImageFolders(folder).split("train")
    assert DecodedImages(images, (16, 40))[0].size == (100, 75)  # 200 x 150 for 40 wide and 16 high
    assert DecodedImages(images, (40, 16))[0].size == (200, 150)


def datamodule(folder, clip, store, **settings):
    return ActivationDataModule(
        ImageFolders(folder), clip, POINT.module, store_dir=str(store), n_probe=4, num_workers=0, **settings
    )


@pytest.mark.filterwarnings("ignore:the audited CLIP also judges")
def test_it_has_a_store_of_its_own_and_leaves_the_other_alone(folder, clip, tmp_path):
    stores = {}
    for decode in ("exact", "fast"):
        data = datamodule(folder, clip, tmp_path / "store", decode=decode)
        data.prepare_data()
        data.setup("fit")
        stores[decode] = data.captures()["train"].folder
        val = data.captures()["val"].folder
        x = read_tensor(hook_folder(val, POINT), "x")
        torch.testing.assert_close(data.probe.x, x[data.probe.image_ids])  # sees the same pictures
        pixels = torch.stack([clip.preprocess(data.images("val")[i]) for i in range(6)])
        embeddings = read_tensor(val / "images", "embeddings")
        torch.testing.assert_close(clip.encode_image(pixels), embeddings, atol=1e-5, rtol=1e-4)
    assert stores["exact"] != stores["fast"]
    fingerprints = {way: read_manifest(path / "images")["fingerprint"] for way, path in stores.items()}
    assert fingerprints["fast"] == fingerprints["exact"] | {"data.decode": "fast"}
    x, exact = (read_tensor(hook_folder(stores[way], POINT), "x") for way in ("fast", "exact"))
    assert 0 < relative_change(x, exact) < 0.1


def test_the_fingerprint_of_an_exact_store_does_not_name_it(folder, clip, tmp_path):
    images = ImageFolders(folder).split("train")
    capture = datamodule(folder, clip, tmp_path).captures()["train"]
    assert "decode" not in images.identity()
    assert capture.folder == datamodule(folder, clip, tmp_path, decode="exact").captures()["train"].folder
    assert capture.folder.name.startswith("tiny")


def test_another_word_is_refused(folder, clip, tmp_path):
    with pytest.raises(ValueError, match="decode must be one of exact, fast, got 'quick'"):
        datamodule(folder, clip, tmp_path, decode="quick")


def test_what_has_no_files_cannot_be_decoded_otherwise(noise, clip, tmp_path):
    data = ActivationDataModule(noise, clip, POINT.module, store_dir=str(tmp_path), decode="fast")
    with pytest.raises(ValueError, match=r"noise has no files: take data\.decode=exact"):
        data.captures()


def test_the_change_is_that_of_the_formula(folder, clip):
    images = ImageFolders(folder).split("train")
    reduced = DecodedImages(images, clip.image_size)
    found = compare_decoding(clip, reduced, images, POINT, range(8), repeats=1)
    with torch.no_grad():
        fast, exact = (
            clip.encode_image(torch.stack([clip.preprocess(each[i]) for i in range(8)]))
            for each in (reduced, images)
        )
    assert found.embeddings == pytest.approx(float((fast - exact).norm() / 8**0.5), rel=1e-4)
    assert 0 < found.activations < 0.1
    assert compare_decoding(clip, images, images, POINT, range(8), repeats=1)[:2] == (0, 0)


def test_a_bad_file_is_left_out_of_the_comparison(folder, clip):
    (folder / "train/cat/0.jpg").write_bytes(b"")
    images = ImageFolders(folder).split("train")
    found = compare_decoding(clip, DecodedImages(images, clip.image_size), images, POINT, range(8), repeats=1)
    assert 0 < found.activations < 0.1


def test_the_command_compares_both(folder, tmp_path, monkeypatch, capsys):
    data = ["data=image_folder", f"data.root={folder}", f"data.store_dir={tmp_path / 'store'}"]
    monkeypatch.setattr("sys.argv", ["data", "precision", *data, "data.decode=fast"])
    command.main()
    _, bf16, fast = capsys.readouterr().out.splitlines()
    assert bf16.startswith("bf16 at visual.transformer.resblocks.3:cls changes the activations by 0.")
    assert bf16.endswith(" in fp32")
    assert fast.startswith("decode=fast at visual.transformer.resblocks.3:cls changes the activations by ")
    assert fast.endswith(" decoded in full")
