"""Every engine fills the store of the embedded world with the same bytes, through the command line."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_sae.data import __main__ as command
from lightning_sae.data.engines import slurm
from lightning_sae.data.store.verify import verify_store

WORLD = ["data.n_train=150", "data.n_val=50", "data.shard_images=32", "data.capture_batch_size=16"]
ENGINES = {
    "devices": ["engine.accelerator=cpu", "engine.devices=2", "engine.num_threads=1"],
    "slurm": ["engine.cluster=local", "engine.jobs=2", "engine.num_threads=1", "engine.gpus_per_node=0"],
    "ray": ["engine.workers=2", "engine.num_threads=1"],
}

ROOT = Path(__file__).parents[2]
MANY = ["data.n_train=1200", "data.n_val=40", "data.shard_images=16", "data.capture_batch_size=16"]
WORKERS = {"devices": "spawn_main", "slurm": "submitit.core._submit", "ray": "ray::"}
"""What the command line of an engine's worker holds."""


def contents(folder):
    """Every file but the claims."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".claims" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def capture(monkeypatch, store, engine, *overrides):
    options = ["data.num_workers=0", "data.n_probe=20", f"data.store_dir={store}"]
    arguments = ["capture", "--engine", engine, *WORLD, *options, *overrides]
    monkeypatch.setattr(sys, "argv", ["data", *arguments])
    command.main()
    return contents(store)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        yield capture(patch, tmp_path_factory.mktemp("alone"), "in_process")
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_bytes(engine, alone, tmp_path, monkeypatch):
    jobs = [f"engine.folder={tmp_path / 'jobs'}"] if engine == "slurm" else []
    found = capture(monkeypatch, tmp_path / "store", engine, *ENGINES[engine], *jobs)
    assert found.keys() == alone.keys()
    assert found == alone
    assert verify_store(tmp_path / "store") == []


def command_line(store, engine, *overrides):
    options = ["data.num_workers=0", "data.n_probe=20", f"data.store_dir={store}", *overrides]
    return [sys.executable, "-m", "lightning_sae.data", "capture", "--engine", engine, *MANY, *options]


def descendants(pid):
    """Processes below a process, each with its command line; Linux."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in (task / "children").read_text().split():
            yield int(child), Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            yield from descendants(int(child))


def worker(pid, words):
    """A worker of an engine, as soon as there is one."""
    try:
        return next((child for child, line in descendants(pid) if words in line), None)
    except FileNotFoundError:  # one of them has just ended
        return None


@pytest.fixture(scope="module")
def many_alone(tmp_path_factory):
    store = tmp_path_factory.mktemp("many_alone")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command_line(store, "in_process"), cwd=ROOT, env=environment, check=True)
    return contents(store)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers in Linux's /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_made_up_for(engine, many_alone, tmp_path):
    """The capture goes on or fails; a second one does what is missing, and nothing else."""
    store = tmp_path / "store"
    jobs = [f"engine.folder={tmp_path / 'jobs'}"] if engine == "slurm" else []
    command = command_line(store, engine, *ENGINES[engine], *jobs)
    capture = subprocess.Popen(command, cwd=ROOT)
    while capture.poll() is None:
        victim = worker(capture.pid, WORKERS[engine])
        if victim is not None and len(list(store.rglob("*.safetensors"))) >= 4:
            os.kill(victim, signal.SIGKILL)
            break
        time.sleep(0.02)
    else:
        pytest.fail("the capture was over before a worker could be killed")
    capture.wait(300)
    kept = {path: path.stat().st_mtime_ns for path in store.rglob("0*.safetensors")}
    subprocess.run(command, cwd=ROOT, check=True)
    assert contents(store) == many_alone
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert verify_store(store) == []


def test_what_an_engine_leaves_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_sae.data.engines.in_process", lambda data, config: None)
    with pytest.raises(SystemExit, match=r"RuntimeError: 5 shards of .* are missing"):
        capture(monkeypatch, tmp_path, "in_process")


class Job:
    def __init__(self, number, task, arguments):
        self.job_id, self.paths, self.error = f"7_{number}", SimpleNamespace(stderr=f"{number}.err"), None
        try:
            task(*arguments)
        except OSError as error:
            self.error = error

    def exception(self):
        return self.error


class Executor:
    """What submitit has, but every job runs at once and here."""

    def __init__(self, folder, cluster, slurm_max_num_timeout):
        self.folder, self.given = folder, {"cluster": cluster, "requeues": slurm_max_num_timeout}

    def update_parameters(self, **parameters):
        self.given |= parameters
        Executor.last = self

    def map_array(self, task, *columns):
        return [Job(number, task, arguments) for number, arguments in enumerate(zip(*columns, strict=True))]


@pytest.fixture
def worked(monkeypatch):
    """Arguments of the work of each job; a third one fails."""
    calls = []

    def work(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("boom")

    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor))
    monkeypatch.setitem(sys.modules, "submitit.helpers", SimpleNamespace(Checkpointable=object))
    monkeypatch.setattr(import_module("lightning_sae.data.engines.slurm"), "work", work)
    return calls


@pytest.mark.parametrize(("cluster", "processes"), [("local", 2), ("slurm", 1)])
def test_slurm_gets_equal_jobs_in_one_array(worked, capsys, cluster, processes):
    options = {"cluster": cluster, "num_threads": 5, "max_requeues": 9, "timeout_min": 30, "mem_gb": None}
    slurm(None, {"n": 1}, jobs=2, folder="logs", **options)
    assert worked == [({"n": 1}, 5, processes)] * 2
    assert Executor.last.given == {"cluster": cluster, "requeues": 9, "timeout_min": 30}
    assert capsys.readouterr().out == "jobs 7_0, 7_1, logs in logs\n"


def test_a_failed_job_of_slurm_is_named_with_its_log(worked):
    with pytest.raises(RuntimeError, match=r"^1 of 4 jobs failed, the first with\nboom\nLogs: 2\.err\."):
        slurm(None, {}, jobs=4)


def test_an_unknown_engine_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["data", "capture", "--engine", "abacus"])
    with pytest.raises(SystemExit, match=r"Could not find 'engine/abacus'\s+Available options in 'engine':"):
        command.main()


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_names_the_extra(engine, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=rf'ModuleNotFoundError: .*pip install -e "\.\[{engine}\]"'):
        capture(monkeypatch, tmp_path, engine)
