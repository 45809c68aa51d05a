"""Damage is found, set aside, and mended; what is whole is left alone, also where nothing can be written."""

import json
import os
import shutil
import sys

import pytest
import torch

from lightning_sae.clip import HookPoint
from lightning_sae.data import ActivationDataModule, Capture, cached_tensor, capture_store, hook_folder
from lightning_sae.data import __main__ as command
from lightning_sae.data.store.shards import read_tensor
from lightning_sae.data.store.space import check_space
from lightning_sae.data.store.verify import verify_store

CLS = HookPoint("visual.transformer.resblocks.1", "cls")
ALL = HookPoint("visual.transformer.resblocks.0", "all")
SETTINGS = {"batch_size": 4, "shard_images": 8, "num_workers": 0}


@pytest.fixture
def fill(noise, clip, tmp_path):
    def fill(hooks=(CLS, ALL), **settings):
        return capture_store(noise, clip, hooks, store_dir=tmp_path / "store", **SETTINGS | settings)

    return fill


@pytest.fixture
def seen(clip, monkeypatch):
    """How many images go through CLIP, without the blank ones that tell sizes."""
    counts, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda x: counts.append(int(x.any()) * len(x)) or encode(x))
    return counts


def flip(path):
    """One bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_store_has_no_faults(fill):
    assert verify_store(fill().parent) == []


def test_a_damaged_shard_alone_is_captured_again(fill, seen):
    folder = fill()
    before = files(folder)
    damaged = hook_folder(folder, ALL) / "000001.safetensors"
    flip(damaged)
    (fault,) = verify_store(folder)
    assert fault.path == damaged
    assert str(fault).endswith("damaged, other bytes than were written; set aside")
    seen.clear()
    fill()
    assert sum(seen) == 8
    assert files(folder) == before
    assert verify_store(folder) == []


def test_what_rots_while_another_shard_is_mended_is_still_found(fill):
    store = hook_folder(fill(), CLS)
    (store / "000001.safetensors").unlink()
    flip(store / "000002.safetensors")
    fill()
    assert [fault.path.name for fault in verify_store(store)] == ["000002.safetensors"]


@pytest.mark.parametrize("size", [0, 5, 300])
def test_a_truncated_shard_is_found_and_captured_again(fill, seen, size):
    folder = fill()
    before = files(folder)
    path = hook_folder(folder, CLS) / "000000.safetensors"
    os.truncate(path, size)
    seen.clear()
    fill()
    assert sum(seen) == 8
    assert files(folder) == before


def test_lost_shards_and_incomplete_folders_are_named(fill):
    folder = fill()
    (folder / "images" / "000002.safetensors").unlink()
    (hook_folder(folder, CLS) / "manifest.json").unlink()
    assert [(fault.path, fault.what) for fault in verify_store(folder)] == [
        (hook_folder(folder, CLS), "incomplete, capture it again"),
        (folder / "images" / "000002.safetensors", "gone"),
    ]


def test_the_command_line_says_it_by_its_exit_status(fill, monkeypatch, capsys):
    folder = fill()
    monkeypatch.setattr(sys, "argv", ["data", "verify", str(folder)])
    command.main()
    assert "every shard is as it was written" in capsys.readouterr().out
    flip(folder / "images" / "000000.safetensors")
    with pytest.raises(SystemExit, match=r"images/000000.safetensors: damaged"):
        command.main()


@pytest.fixture
def rewrite(fill):
    """Changes what a manifest says of its first shard, or of all; gives its folder."""

    def rewrite(entry=None, **changes):
        folder = hook_folder(fill(), CLS)
        manifest = json.loads((folder / "manifest.json").read_bytes()) | changes
        manifest["shards"][0] |= entry or {}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return rewrite


@pytest.mark.parametrize(
    "name",
    [
        *("../../../precious", "/ABSOLUTE", "../000000.safetensors", "sub/000000.safetensors", "", "."),
        *(
            "000000.safetensors\n",
            "000000.safetensors/../../x",
            "manifest.json",
            "C:000000.safetensors",
            7,
            None,
        ),
    ],
)
def test_a_manifest_names_nothing_but_shards_of_its_folder(rewrite, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = rewrite({"file": str(precious) if name == "/ABSOLUTE" else name})
    before = files(tmp_path)
    (fault,) = verify_store(folder)
    assert (fault.path, "is no manifest of a store (shards.0.file: " in fault.what) == (folder, True)
    with pytest.raises(ValueError, match=r"manifest\.json is no manifest of a store"):
        read_tensor(folder, "x")
    assert files(tmp_path) == before


def test_what_is_left_of_a_manifest_names_nothing_else_either(fill, tmp_path):
    store = hook_folder(fill(), CLS)
    entries = json.loads((store / "manifest.json").read_bytes())["shards"]
    (store / "manifest.json").unlink()
    entries[0]["file"] = "../../../precious"
    (store / "manifest.withdrawn.json").write_text(json.dumps({"shards": entries}))
    with pytest.raises(ValueError, match=r"manifest\.withdrawn\.json is no manifest .*0\.file: "):
        fill()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entry": {"bytes": -1}}, r"shards\.0\.bytes"),
        ({"entry": {"images": [0, "x"]}}, r"shards\.0\.images"),
        ({"entry": {"bytes": "123"}}, r"shards\.0\.bytes: .*, got '123'"),
        ({"entry": {"images": [4, 0]}}, r"shards\.0\.images: .*before the end, got \[4, 0\]"),
        ({"entry": {"images": [0, 4]}}, r"shards: .*must follow those of the one before"),
        ({"bad_images": {"1.0": "a.png"}}, r"bad_images\.1\.0"),
        ({"decoded": {"turned": "3"}}, r"decoded\.turned"),
        ({"statistics": {"mean": 0, "scale": 1.0, "n_tokens": 1}}, r"statistics\.mean"),
        ({"tensors": {"x": ["F8", [1, 16]]}}, r"tensors\.x"),
        ({"shards": [{}]}, r"shards\.0\.file: Field required"),
        ({"tensors": {"x": ["F32", [10**9, 16]]}}, r"says that x has [0-9,]+ bytes, and all shards have"),
    ],
)
def test_a_manifest_that_says_nonsense_is_named_and_nothing_is_allocated(rewrite, changes, said):
    folder = rewrite(**changes)
    with pytest.raises(ValueError, match=rf"manifest\.json.*{said}"):
        read_tensor(folder, "x")


def test_a_manifest_that_is_cut_off_is_named_by_line(rewrite):
    folder = rewrite()
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-40])
    (fault,) = verify_store(folder)
    assert "manifest.json, line 1: no JSON: the file ends too early" in str(fault)


def test_pipes_in_a_store_are_not_waited_for(fill):
    store = hook_folder(fill(), CLS)
    (store / "000001.safetensors").unlink()
    os.mkfifo(store / "000001.safetensors")
    assert [fault.what for fault in verify_store(store)] == ["gone"]
    (store / "manifest.json").unlink()
    os.mkfifo(store / "manifest.json")
    assert [fault.what for fault in verify_store(store)] == ["incomplete, capture it again"]
    with pytest.raises(FileNotFoundError, match="no complete store"):
        read_tensor(store, "x")


def test_no_store_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no store in"):
        verify_store(tmp_path)


def test_the_size_is_what_is_written(noise, clip, tmp_path):
    capture = Capture(noise, clip, (CLS, ALL), store_dir=tmp_path, **SETTINGS | {"dtype": "float16"})
    tensors = 22 * (16 * 4 + 8) + 22 * 16 * 2 + 22 * 5 * 16 * 2
    assert capture.bytes_missing() == tensors + 9 * 4096
    capture.fill()
    assert capture.bytes_missing() == 0
    shards = [path.stat().st_size for path in capture.folder.rglob("*.safetensors")]
    assert tensors < sum(shards) < tensors + 9 * 4096


def test_a_full_disk_is_known_before(noise, clip, tmp_path, monkeypatch):
    capture = Capture(noise, clip, [ALL], store_dir=tmp_path, **SETTINGS)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=capture.bytes_missing() - 1))
    with pytest.raises(OSError, match=r"needs .* more in .* free: half the size with data.dtype=float16, .*"):
        capture.fill()
    assert not [*tmp_path.iterdir()]
    with pytest.raises(OSError, match=r"free: another place with data.store_dir=DIR"):
        check_space([capture], "float16")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=capture.bytes_missing()))
    capture.fill()


WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.link",
    "os.symlink",
}
guarded = []


def refuse(event, arguments):
    """Audits what Python does to files: it holds where permissions do not, for the superuser."""
    if not guarded or event not in WRITES | {"open"}:
        return
    writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
    if writes and any(str(arguments[0]).startswith(root) for root in guarded):
        raise AssertionError(f"{event} of {arguments[0]} in a read-only store")


sys.addaudithook(refuse)


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """Makes the store refuse whatever would change it."""

    def protect():
        store, access = tmp_path / "store", os.access
        for path in (store, *store.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode: access(path, mode) and not (mode & os.W_OK and store in (path, *path.parents)),
        )
        monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
        guarded.append(str(store))

    yield protect
    guarded.clear()
    for path in (tmp_path / "store").rglob("*"):
        path.chmod(0o755)


def test_a_complete_store_is_used_without_writing(noise, clip, judge, tmp_path, read_only, fill):
    arguments = (noise, clip, CLS.module, "cls", judge)
    settings = {"store_dir": str(tmp_path / "store"), "batch_size": 8, "n_probe": 7, "num_workers": 0}
    data = ActivationDataModule(*arguments, **settings)
    data.prepare_data()
    data.setup("fit")
    probe = data.probe
    next((tmp_path / "store").rglob("probe-*")).unlink()
    read_only()
    data = ActivationDataModule(*arguments, **settings)
    for _ in range(2):  # the probe is kept in the user's cache
        data.prepare_data()
        data.setup("fit")
        assert data.probe.x.equal(probe.x)
        assert len([*data.train_dataloader()]) == 2
    (kept,) = (tmp_path / "cache").rglob("probe-*.safetensors")
    assert (tmp_path / "store" / kept.relative_to(tmp_path / "cache" / "lightning_sae")).parent.is_dir()
    null = cached_tensor(data.judge_folder / "nulls", "null", {}, lambda: torch.ones(2))
    assert null.equal(cached_tensor(data.judge_folder / "nulls", "null", {}, torch.empty))


def test_an_incomplete_store_that_cannot_be_written_says_so(fill, read_only):
    store = hook_folder(fill(), CLS)
    (store / "000001.safetensors").unlink()
    read_only()
    with pytest.raises(PermissionError, match=r"1 shards of .* are missing, and it cannot be written: have"):
        fill()
    assert [fault.what for fault in verify_store(store)] == ["gone"]


def test_damage_in_a_store_that_cannot_be_written_is_named(fill, read_only):
    store = hook_folder(fill(), CLS)
    flip(store / "000001.safetensors")
    read_only()
    assert "its owner has to delete the shard" in str(*verify_store(store))
