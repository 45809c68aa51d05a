"""Thirty times SIGKILL at random moments of the training: every run ends as the undisturbed one."""

import json
import math
import os
import random
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
KILLS, STEPS = 30, 240
SMALL = [
    *("data.n_train=320", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "sae.dead_after=100", "trainer.accelerator=cpu", "logger=csv"),
    *(f"trainer.max_steps={STEPS}", "trainer.val_check_interval=60", "trainer.log_every_n_steps=1"),
    *("callbacks=[progress,best_checkpoint,checkpoint,save_sae,ema]", "callbacks.progress.refresh_rate=0"),
    "callbacks.checkpoint.minutes=0",  # a checkpoint behind every step: kills fall into the writing too
]


def train(folder, store):
    """Starts train.py in a process of its own; its id. A fork, since this process has imported it all."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["train.py", *SMALL, f"data.store_dir={store}", f"hydra.run.dir={folder}"]
    status = 1
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        status = 0
    except (Exception, SystemExit):  # of whatever kind, it is a failure with a traceback
        traceback.print_exc()
    finally:  # the rest of this process is not to go on
        os._exit(status)


def ended(child, log):
    """Whether the process is at its end, which has to be a good one."""
    pid, status = os.waitpid(child, os.WNOHANG)
    assert status == 0, log.read_text()
    return pid != 0


def training_seconds(child, folder, at_most=math.inf):
    """Waits until it trains, and then for its end, or for some seconds."""
    before, start = stamp(folder), None
    while not ended(child, folder.with_suffix(".log")):
        if start is None and stamp(folder) != before:
            start = time.monotonic()
        if start is not None and time.monotonic() - start >= at_most:
            return None
        time.sleep(0.005)
    return time.monotonic() - (start or time.monotonic())


def stamp(folder):
    path = folder / "checkpoints" / "last.ckpt"
    return path.stat().st_mtime_ns if path.exists() else 0


def step(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


def finished(folder):
    return json.loads((folder / "run.json").read_text())["metrics"] is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(tmp_path, capfd):
    store, whole = tmp_path / "store", tmp_path / "undisturbed"
    lasts = training_seconds(train(whole, store), whole)
    draw, steps, runs = random.Random(0), [], []
    while len(steps) < KILLS or not finished(runs[-1]):
        if not runs or finished(runs[-1]):
            runs.append(tmp_path / f"run{len(runs)}")
        child = train(runs[-1], store)
        moment = draw.uniform(0, lasts) if len(steps) < KILLS else math.inf
        if training_seconds(child, runs[-1], moment) is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            steps.append(step(runs[-1]))
    with capfd.disabled():
        print(f"\n{len(steps)} kills in {len(runs)} runs of {STEPS} steps, resumed from {steps}")
    for run in runs:
        assert step(run) == STEPS
        for name in ("metrics.csv", "sae/sae.safetensors"):
            assert (run / name).read_bytes() == (whole / name).read_bytes(), f"{run.name}/{name}"
