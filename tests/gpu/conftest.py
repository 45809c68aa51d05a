"""What only a CUDA GPU can show: `pytest -m gpu` checks a machine in minutes. Tests share one default run."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            item.add_marker(needs_gpu)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU that `auto` takes."""
    return torch.device("cuda", 0)


class Run(NamedTuple):
    """A run of train.py as a user starts it.

    Attributes:
        folder: the run folder.
        store: where its activations are.
        said: on the standard output.
        seconds: that it took, the capture included.
    """

    folder: Path
    store: Path
    said: str
    seconds: float


def train_alone(folder: Path, store: Path, overrides: Sequence[str] = ()) -> Run:
    """Runs train.py in a process of its own."""
    command = ["train.py", "logger=csv", f"hydra.run.dir={folder}", f"data.store_dir={store}", *overrides]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Run(folder, store, done.stdout, time.perf_counter() - start)


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The embedded world with nothing set but where files go."""
    return train_alone(tmp_path_factory.mktemp("default"), tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def train_on(default_run: Run) -> Callable[..., Run]:
    """Folder, overrides -> a further run on the activations of the default run, in a process of its own."""

    def train_on(folder: Path, *overrides: str) -> Run:
        return train_alone(folder, default_run.store, overrides)

    return train_on


@pytest.fixture
def train_here(default_run: Run, train_py: Callable[..., object]) -> Callable[..., object]:
    """Folder, overrides -> what train.py ends with, in this process and on the same activations."""

    def train_here(folder: Path, *overrides: str) -> object:
        where = [f"hydra.run.dir={folder}", f"data.store_dir={default_run.store}"]
        return train_py("logger=csv", "callbacks.progress.refresh_rate=0", *where, *overrides)

    return train_here


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure in the midst of pytest's own lines."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}")

    return say
