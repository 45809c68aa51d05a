"""Images that cannot be decoded: what is stored, trained on and evaluated is as if they were not there."""

import json
import os
import socket
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_sae.clip import HookPoint
from lightning_sae.data import (
    ActivationDataModule,
    ActivationStore,
    BadImageError,
    ImageFolders,
    capture_store,
    hook_folder,
)
from lightning_sae.data.images.bad_images import GoodImages
from lightning_sae.data.images.decoding import decode
from lightning_sae.data.store.shards import read_manifest, read_tensor

CLS = HookPoint("visual.transformer.resblocks.1", "cls")
ALL = HookPoint("visual.transformer.resblocks.0", "all")
BROKEN = [*range(8, 16), 3, 21]  # a whole shard of 8, one in the middle, the last


@pytest.fixture
def root(tmp_path):
    """22 pictures of two classes in each of three splits."""
    for split in ("train", "val", "test"):
        for i in range(22):
            path = tmp_path / "pets" / split / ("cat" if i < 11 else "dog") / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([i, len(split)])
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def spoil(root, split, ids=BROKEN):
    for path in sorted((root / split).rglob("*.png")):
        if int(path.stem) in ids:
            path.write_bytes(path.read_bytes()[: 30 if int(path.stem) % 2 else 400])


def fill(root, clip, store, hooks=(CLS, ALL), split="train", **settings):
    settings = {"batch_size": 4, "shard_images": 8, "max_bad_images": 10} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return capture_store(ImageFolders(root).split(split), clip, hooks, store_dir=store, **settings)


def replace_by(kind, path):
    """What is no file in the place of one; gives what holds it open."""
    path.unlink()
    if kind == "pipe":
        return os.mkfifo(path)
    if kind == "device":
        return path.symlink_to("/dev/zero")
    listening = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(path.parent)  # an address is short
    listening.bind(path.name)
    os.chdir(before)
    return listening


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_a_broken_image_and_never_waited_for(root, clip, tmp_path, kind):
    held = replace_by(kind, root / "train" / "cat" / "03.png")
    images = ImageFolders(root).split("train")
    with pytest.raises(BadImageError, match=rf"train/cat/03\.png: a {kind}, not a file"):
        images[3]
    folder = fill(root, clip, tmp_path / "store", max_bad_images=1, num_workers=1)
    assert json.loads((folder / "images" / "manifest.json").read_text())["bad_images"].keys() == {"3"}
    del held


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.png: no image"),
        (b"", "a.png: empty"),
        (b"<html>404</html>", "a.png: not an image file that Pillow knows"),
    ],
)
def test_what_is_no_image_says_so(content, message):
    with pytest.raises(BadImageError) as caught:
        decode(content, "a.png")
    assert str(caught.value) == message


def test_every_byte_of_a_file_may_be_damaged(root):
    """Pillow raises errors of many kinds; only ours comes out, or an image."""
    whole = next((root / "train").rglob("*.png")).read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        try:
            assert decode(bytes(content), "a.png").mode == "RGB"
        except BadImageError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith("a.png: ") for message in messages)


DAMAGED = {
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\x02IHDR\0\0\0\0\0\0",
    "WebP": b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0",
    "PPM": b"P6 x y 255\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_without_an_ending_is_a_bad_image(root, clip, tmp_path, kind):
    (root / "train" / "cat" / "photo").write_bytes(DAMAGED[kind])
    folder = fill(root, clip, tmp_path / "store", max_bad_images=1)
    bad = json.loads((folder / "images" / "manifest.json").read_text())["bad_images"]
    assert [message.partition(":")[0] for message in bad.values()] == ["train/cat/photo"]


def test_a_bomb_is_a_bad_image(root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with pytest.raises(BadImageError, match=r"a\.png: .*decompression bomb"):
        decode(next((root / "train").rglob("*.png")).read_bytes(), "a.png")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_none_is_allowed_by_default_and_all_are_named(root, clip, tmp_path, num_workers):
    spoil(root, "train", range(12))
    with pytest.raises(BadImageError, match="12 of 22 images cannot be read") as caught:
        fill(root, clip, tmp_path / "store", num_workers=num_workers, max_bad_images=0)
    message = str(caught.value)
    assert "train/cat/09.png" in message
    assert "... and 2 more" in message
    assert "more than the 0 that data.max_bad_images allows" in message


@pytest.mark.parametrize(("limit", "enough"), [(10, True), (9, False), (0.46, True), (0.45, False)])
def test_the_limit_is_a_count_or_a_share(root, clip, tmp_path, limit, enough):
    spoil(root, "train")
    if enough:
        folder = fill(root, clip, tmp_path / "store", max_bad_images=limit)
        with pytest.raises(BadImageError, match="10 of 22 images"):  # also of a store that is whole
            fill(root, clip, tmp_path / "store", max_bad_images=9)
        assert read_manifest(folder / "images")["n_images"] == 22
    else:
        with pytest.raises(BadImageError, match=r"10 of 22 images cannot be read"):
            fill(root, clip, tmp_path / "store", max_bad_images=limit)
        fill(root, clip, tmp_path / "store", max_bad_images=10)  # goes on where it gave up


@pytest.mark.parametrize("limit", [-1, -0.5])
def test_a_negative_limit(root, clip, tmp_path, limit):
    with pytest.raises(ValueError, match="count >= 0 or a share below 1, got -"):
        fill(root, clip, tmp_path / "store", max_bad_images=limit)


def test_a_split_without_any_good_image_is_refused(root, clip, tmp_path):
    spoil(root, "train", range(22))
    with pytest.raises(BadImageError, match="22 of 22"):
        fill(root, clip, tmp_path / "store", max_bad_images=100)


def all_rows(folder):
    store = ActivationStore(folder)
    return store.rows(0, len(store))


def test_the_store_is_that_of_the_good_images(root, clip, tmp_path):
    before = fill(root, clip, tmp_path / "whole")
    good = [i for i in range(22) if i not in BROKEN]
    spoil(root, "train")
    folder = fill(root, clip, tmp_path / "store")
    for hook in (CLS, ALL):
        whole = all_rows(hook_folder(before, hook)).view(22, -1)
        for limit in (8, 0):  # in memory, and mapped
            store = ActivationStore(hook_folder(folder, hook), memory_limit_gb=limit)
            assert store.layout.n_images == 12
            assert store.rows(0, len(store)).view(12, -1).equal(whole[good])
            assert store.rows(3 * store.layout.tokens, 4 * store.layout.tokens).view(-1).equal(whole[good[3]])
        x = whole[good].view(len(store), -1)
        torch.testing.assert_close(store.statistics.mean, x.mean(0))
        assert store.statistics.n_tokens == len(store)
    embeddings = read_tensor(before / "images", "embeddings")
    assert read_tensor(folder / "images", "embeddings").equal(embeddings[good])
    assert read_tensor(folder / "images", "targets").tolist() == [int(i >= 11) for i in good]
    manifest = json.loads((folder / "images" / "manifest.json").read_text())
    assert [*manifest["bad_images"]] == [str(i) for i in sorted(BROKEN)]
    assert manifest["bad_images"]["8"].startswith("train/cat/08.png: ")
    assert read_manifest(hook_folder(folder, ALL))["bad_images"] == manifest["bad_images"]


def test_batches_shards_and_workers_do_not_matter_to_the_rows(root, clip, tmp_path):
    spoil(root, "train")
    wanted = all_rows(hook_folder(fill(root, clip, tmp_path / "store"), CLS))
    for i, settings in enumerate(({"batch_size": 22}, {"shard_images": 5}, {"num_workers": 2})):
        other = all_rows(hook_folder(fill(root, clip, tmp_path / str(i), **settings), CLS))
        torch.testing.assert_close(other, wanted, atol=1e-5, rtol=1e-4)


LOST = {"images": "000000", f"{CLS.module}-cls": "000001", f"{ALL.module}-all": "manifest"}


@pytest.mark.parametrize("part", LOST)
def test_resumed_it_has_the_same_bytes(root, clip, tmp_path, part):
    spoil(root, "train")
    folder = fill(root, clip, tmp_path / "store")
    before = contents(folder)
    for path in (folder / part).glob(f"{LOST[part]}.*"):
        path.unlink()
    fill(root, clip, tmp_path / "store")
    assert contents(folder) == before


def test_a_later_hook_point_must_lack_the_same_images(root, clip, tmp_path, monkeypatch):
    spoil(root, "train")
    fill(root, clip, tmp_path / "store", [CLS])
    monkeypatch.setattr(
        "lightning_sae.data.images.image_files.decode", lambda content, name: Image.new("RGB", (16, 16))
    )
    with pytest.raises(ValueError, match="10 images could be decoded for only one of"):
        fill(root, clip, tmp_path / "store", [CLS, ALL])


def test_a_file_that_cannot_be_read_is_not_a_bad_image(root, clip, tmp_path):
    images = ImageFolders(root).split("train")
    (root / "train/cat/05.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"05\.png"):
        capture_store(images, clip, store_dir=tmp_path / "store", max_bad_images=10, num_workers=0)


@pytest.mark.parametrize("tokens", ["cls", "patch"])
@pytest.mark.filterwarnings("ignore:left out")
def test_training_and_evaluation_never_see_them(root, clip, judge, tmp_path, tokens):
    source = ImageFolders(root)
    spoil(root, "train")
    spoil(root, "val", [0, 21])
    settings = {"store_dir": str(tmp_path / "store"), "batch_size": 4, "shard_images": 8, "n_probe": 6}
    data = ActivationDataModule(
        source, clip, "visual.transformer.resblocks.0", tokens, judge, max_bad_images=10, **settings
    )
    data.prepare_data()
    data.setup("fit")
    train, val = data.images("train"), data.images("val")
    assert (len(train), len(val), data.store.layout.n_images) == (12, 20, 12)
    t = data.shape.tokens
    seen = set()
    for batch in data.train_dataloader():
        for x, image, target in zip(batch.x, batch.image_ids.tolist(), batch.targets, strict=True):
            assert target == train.targets[image]
            assert (data.store.images(torch.tensor([image]))[0] == x).all(1).any()
            seen.add(image)
    assert seen <= {*range(12)}
    batches = [*data.val_dataloader()]
    assert torch.cat([batch.image_ids[::t] for batch in batches]).tolist() == [*range(20)]
    pixels = torch.stack([clip.preprocess(val[i]) for i in range(20)])
    with torch.no_grad():
        embeddings, judged = clip.encode_image(pixels), judge.encode_image(pixels)
    found = torch.cat([batch.embeddings[::t] for batch in batches])
    torch.testing.assert_close(found, embeddings, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(data.judge_embeddings, judged, atol=1e-5, rtol=1e-4)
    assert torch.cat([batch.targets[::t] for batch in batches]).tolist() == [0] * 10 + [1] * 10
    assert data.probe.targets.equal(val.targets[data.probe.image_ids])
    with torch.no_grad():
        outputs = data.tail(data.probe.x, data.probe.context)
    torch.testing.assert_close(outputs, embeddings[data.probe.image_ids], atol=1e-5, rtol=1e-4)
    assert val.identity() == source.split("val").identity()


def test_what_is_known_moves_up_with_the_images(make_noise):
    noise = make_noise(6)
    noise.factors = {"place": (["land", "water"], torch.tensor([0, 1, 0, 1, -1, 1]))}
    good = GoodImages(noise, [0, 3])
    assert good.targets.tolist() == [1, 2, 1, 2]
    assert good.factors["place"][1].tolist() == [1, 0, -1, 1]
    assert np.array_equal(np.asarray(good[1]), np.asarray(noise[2]))
    assert (len(good), good.class_names) == (4, noise.class_names)
