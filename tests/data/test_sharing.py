"""Several processes at one store: no damage, nothing twice, and the same bytes as of one."""

import json
import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from lightning_sae.clip import HookPoint
from lightning_sae.data import Capture, capture_store, hook_folder

FORK = multiprocessing.get_context("fork")
CLS = HookPoint("visual.transformer.resblocks.1", "cls")
ALL = HookPoint("visual.transformer.resblocks.0", "all")
SETTINGS = {"batch_size": 4, "shard_images": 8, "num_workers": 0}


def contents(folder):
    """Every file but the claims."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".claims" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture
def counted(make_noise, tmp_path):
    """Pictures that note in a file which process asked for them."""

    class Counted(make_noise):
        others = None  # a barrier: nobody is done before each has begun

        def __getitem__(self, index):
            barrier, self.others = self.others, None
            if barrier:
                barrier.wait(100)
            with (tmp_path / "asked").open("a") as file:
                file.write(f"{index} {os.getpid()}\n")
            return super().__getitem__(index)

    return Counted(100)


@pytest.fixture
def asked(tmp_path):
    """Which images were asked for, and by how many processes."""

    def read():
        lines = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
        return sorted(int(index) for index, _ in lines), len({pid for _, pid in lines})

    return read


def run(*functions):
    """Each in a process of its own, at once."""
    processes = [FORK.Process(target=function) for function in functions]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


@pytest.fixture
def fill(clip, tmp_path):
    def fill(images, hooks=(CLS, ALL), store="store", **settings):
        torch.set_num_threads(1)
        return capture_store(images, clip, hooks, store_dir=tmp_path / store, **SETTINGS | settings)

    return fill


def test_two_processes_share_the_shards(fill, counted, asked, noise, make_noise):
    counted.others = FORK.Barrier(2)
    codes = run(lambda: fill(counted), lambda: fill(counted))
    assert codes == [0, 0]
    images, processes = asked()
    assert images == [*range(100)]
    assert processes == 2
    folder = fill(counted)
    assert asked()[0] == images
    assert contents(folder) == contents(fill(make_noise(100), store="alone"))
    assert not [*folder.rglob("*.lock")]


def test_two_processes_with_other_hook_points_share_the_embeddings(fill, counted, make_noise):
    assert run(lambda: fill(counted, [CLS]), lambda: fill(counted, [ALL])) == [0, 0]
    assert contents(fill(counted)) == contents(fill(make_noise(100), store="alone"))


def test_two_processes_with_other_shard_sizes_end(fill, counted, clip, tmp_path):
    codes = run(lambda: fill(counted, [CLS]), lambda: fill(counted, [ALL], shard_images=5))
    assert codes == [0, 0]
    for hooks, size in (([CLS], 8), ([ALL], 5)):
        settings = SETTINGS | {"shard_images": size}
        assert Capture(counted, clip, hooks, store_dir=tmp_path / "store", **settings).complete


@pytest.fixture
def capture(counted, clip, tmp_path):
    def capture(**settings):
        return Capture(counted, clip, [CLS], store_dir=tmp_path / "store", **SETTINGS | settings)

    return capture


@contextmanager
def claimed_by_another(capture, shard):
    """A shard that another process has, until somebody waits for it."""
    ready, go = FORK.Event(), FORK.Event()

    def other():
        capture._prepare()
        assert capture._claims.take(shard)
        ready.set()
        assert go.wait(100)
        capture._claims.release(shard)

    process = FORK.Process(target=other)
    process.start()
    assert ready.wait(100)
    sleep, time.sleep = time.sleep, lambda seconds: (go.set(), process.join())
    try:
        yield process
    finally:
        time.sleep = sleep
    assert process.exitcode == 0


def test_a_shard_that_another_has_is_waited_for(capture, capsys):
    mine = capture()
    with claimed_by_another(mine, 5) as process:
        mine.fill()
    assert f"waiting for process {process.pid} on " in capsys.readouterr().out
    assert mine.complete


def test_a_shard_of_a_smaller_size_in_work_is_waited_for(capture, asked, capsys):
    # the files have the same names: what is written later would take the place of a larger shard
    mine = capture()
    with claimed_by_another(capture(shard_images=5), 5) as process:
        assert mine._claims.take(0)
        assert process.exitcode == 0
    mine._claims.release(0)
    assert f"waiting for process {process.pid} on " in capsys.readouterr().out


def test_no_manifest_is_written_while_larger_shards_are_in_work(capture):
    smaller, larger = capture(shard_images=5), capture()
    smaller.capture_shards(range(20))
    assert smaller.missing() == []
    assert larger._claims.take(0)
    assert not smaller._finish()
    larger._claims.release(0)
    assert smaller._finish()
    assert smaller.complete


def test_a_shard_is_a_function_of_its_number(fill, make_noise, clip, tmp_path):
    images = make_noise(22)
    capture = Capture(images, clip, [CLS], store_dir=tmp_path / "store", **SETTINGS)
    assert capture.missing() == [0, 1, 2]
    assert capture.capture_shards([2]) == 1
    assert capture.missing() == [0, 1]
    assert capture.capture_shards([2]) == 0
    path = hook_folder(capture.folder, CLS) / "000002.safetensors"
    before = path.read_bytes()
    whole = fill(images, [CLS], store="whole")
    assert before == (hook_folder(whole, CLS) / path.name).read_bytes()


def test_a_shard_whose_claim_was_lost_is_left_to_who_has_it_now(capture):
    # the process was stopped for longer than a lease: another one may have finished the store by now
    mine, rest = capture(), capture()
    run = mine._run

    def lose_one(claimed, shards):
        first, *others = claimed
        path = mine._claims._held[first.shard].lock_file
        Path(path).write_text(Path(path).read_text().replace(mine._claims._held[first.shard].token, "0" * 32))
        return run([first, *others], shards)

    mine._run = lose_one
    assert mine.capture_shards([0, 1, 2]) == 2
    assert mine.missing() == [0, *range(3, 13)]
    for lock in mine.folder.rglob("*.lock"):
        lock.unlink()
    rest.fill()
    assert rest.complete


def test_a_refused_wait_gives_the_claim_back(capture, monkeypatch):
    mine = capture()
    monkeypatch.setattr(mine._claims, "_taken", lambda sizes: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mine._claims.take(0)
    assert not [*mine.folder.rglob("*.lock")]


def test_a_stop_ends_the_wait_for_smaller_shards(capture):
    mine = capture()
    with claimed_by_another(capture(shard_images=5), 5):
        mine._claims.ended.set()
        assert not mine._claims.take(0)
        time.sleep(0)  # the other goes on


def test_a_shard_of_another_size_than_the_manifest_says_is_looked_at_again(fill, counted, capture):
    folder = fill(counted, [CLS])
    manifest = hook_folder(folder, CLS) / "manifest.json"
    entries = json.loads(manifest.read_text())
    entries["shards"][1]["bytes"] += 1
    manifest.write_text(json.dumps(entries))
    assert capture().missing() == [1]
    assert fill(counted, [CLS]) == folder
    assert json.loads(manifest.read_text())["shards"][1]["bytes"] == entries["shards"][1]["bytes"] - 1
