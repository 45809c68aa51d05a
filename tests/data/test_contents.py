"""Files known by what they hold: a picture replaced in place by another of equal size is another one."""

import os

import numpy as np
import pytest
from PIL import Image

from lightning_sae.data import ImageFolders
from lightning_sae.data.images import contents
from lightning_sae.data.images.contents import BLOCK, PLACES, content_hash, content_hashes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder, and files that count as settled at once."""
    monkeypatch.setattr(contents.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(contents, "SETTLED", 0)
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.bin").write_bytes(bytes([i]) * 100)
    return [f"{i}.bin" for i in range(5)]


@pytest.fixture
def read(monkeypatch):
    """The files that were opened."""
    opened = []

    def look(file):
        opened.append(os.path.basename(file))
        return content_hash(file)

    monkeypatch.setattr(contents, "content_hash", look)
    return opened


@pytest.mark.parametrize("ending", ["bmp", "ppm", "tiff"])
def test_a_picture_replaced_in_place_by_one_of_equal_size_is_another(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (2, 10, 64, 64, 3), dtype=np.uint8)
    for i in range(10):
        path = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise[0, i]).save(path)
    before = {split: ImageFolders(tmp_path / "pets", 0.2, 0.2).split(split).identity() for split in SPLITS}
    size = path.stat().st_size
    Image.fromarray(noise[1, 9]).save(path)
    assert path.stat().st_size == size
    after = {split: ImageFolders(tmp_path / "pets", 0.2, 0.2).split(split).identity() for split in SPLITS}
    assert sum(before[split] != after[split] for split in SPLITS) == 1


SPLITS = ("train", "val", "test")


@pytest.mark.parametrize("size", [1, BLOCK * PLACES, BLOCK * PLACES + 1, 10 * BLOCK * PLACES])
def test_both_ends_and_blocks_between_are_seen(tmp_path, size):
    path = tmp_path / "file"
    content = bytearray(np.random.default_rng(0).bytes(size))

    def written(place):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        return content_hash(path)

    path.write_bytes(content)
    whole = content_hash(path)
    middle = (size - BLOCK) * 3 // (PLACES - 1) if size > BLOCK * PLACES else size // 2
    assert whole not in {written(0), written(size - 1), written(middle)}
    path.write_bytes(content + b"\0")
    assert content_hash(path) != whole


def test_a_large_file_is_seen_once_a_mebibyte(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    before = content_hash(path)
    with path.open("r+b") as file:
        file.seek(((64 << 20) - BLOCK) * 40 // 63)
        file.write(b"x")
    assert content_hash(path) != before


def test_a_file_is_read_once(tmp_path, files, read):
    first = content_hashes(tmp_path, files)
    assert sorted(read) == files
    assert content_hashes(tmp_path, files[::-1]) == first[::-1]
    assert sorted(read) == files
    (tmp_path / "5.bin").write_bytes(b"new")
    assert content_hashes(tmp_path, [*files, "5.bin"])[:5] == first
    assert read[5:] == ["5.bin"]


def test_a_file_is_read_again_when_it_was_written_even_if_its_time_is_set_back(tmp_path, files, read):
    first = content_hashes(tmp_path, files)
    path, times = tmp_path / "2.bin", (tmp_path / "2.bin").stat()
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = content_hashes(tmp_path, files)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, True, True]
    assert read[5:] == ["2.bin"]


def test_what_was_just_written_is_not_trusted(tmp_path, files, read, monkeypatch):
    monkeypatch.setattr(contents, "SETTLED", 3600 * 10**9)
    content_hashes(tmp_path, files)
    content_hashes(tmp_path, files)
    assert sorted(read) == sorted(files * 2)


def test_without_a_cache_folder_all_is_read(tmp_path, files, read, monkeypatch):
    monkeypatch.setattr(contents, "writable", lambda folder: False)
    assert content_hashes(tmp_path, files) == content_hashes(tmp_path, files)
    assert len(read) == 10
    assert not (tmp_path / "cache").exists()


def test_hard_links_hold_the_same(tmp_path, files):
    os.link(tmp_path / "0.bin", tmp_path / "again.bin")
    for _ in range(2):
        found = content_hashes(tmp_path, [*files, "again.bin"])
        assert found[0] == found[5]
        assert len(set(found)) == 5


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert content_hashes(tmp_path, ["pipe"]) == content_hashes(tmp_path, ["pipe"])


def test_a_damaged_cache_is_named(tmp_path, files, cache):
    content_hashes(tmp_path, files)
    (kept,) = cache.rglob("*.npy")
    kept.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"\.npy is damaged .*: delete it"):
        content_hashes(tmp_path, files)
