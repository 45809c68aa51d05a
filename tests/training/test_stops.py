"""Real processes that are told to stop: `train && audit` and `capture && train` stop there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGNALS = pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
LARGE = ["data.n_train=20000", "data.n_val=64", "data.n_test=1", "data.num_workers=1"]
ENDLESS = [
    *("data.n_train=320", "data.n_val=64", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=-1", "trainer.val_check_interval=100000", "trainer.log_every_n_steps=1"),
    *("callbacks=[checkpoint]", "callbacks.checkpoint.minutes=0"),
]


def start(*command):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell ignores it for what it starts in the background, and children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stopped(process, number, there):
    """What it said, having got a signal once a file is there; Ctrl-C, as in a terminal, with its group."""
    deadline = time.monotonic() + 200
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    return process.communicate(timeout=100)


@SIGNALS
def test_a_training(tmp_path, number, status):
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    process = start("train.py", *ENDLESS, f"data.store_dir={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}")
    _, said = stopped(process, number, last.exists)
    assert process.returncode == status
    assert "Stopped. To go on from the last checkpoint:" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / ".running.lock").exists()


@SIGNALS
def test_a_capture(tmp_path, number, status):
    capture = ("-m", "lightning_sae.data", "capture", "--device=cpu")
    process = start(*capture, *LARGE, f"data.store_dir={tmp_path}")
    _, said = stopped(process, number, lambda: any(tmp_path.rglob("*.safetensors")))
    assert process.returncode == status
    assert "Traceback" not in said
    assert not [*tmp_path.rglob("*.lock")]
