"""SIGKILLs at random moments of trainings: `python benchmarks/kills_in_training.py`.

Trains one run undisturbed, and others that are killed and started again by the same command until they are
at their end. Prints from which steps they went on, and fails where the autoencoder or a curve of one differs
from those of the undisturbed run.
"""

import argparse
import importlib
import json
import math
import os
import random
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
STEPS = 120
SMALL = [
    *("data.n_train=320", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "sae.dead_after=100", "trainer.accelerator=cpu", "logger=csv"),
    *(f"trainer.max_steps={STEPS}", "trainer.val_check_interval=60", "trainer.log_every_n_steps=1"),
    *("callbacks=[progress,best_checkpoint,checkpoint,save_sae,ema]", "callbacks.progress.refresh_rate=0"),
    "callbacks.checkpoint.minutes=0",  # a checkpoint behind every step: kills fall into the writing too
]
IMPORTED = (
    "hydra",
    "lightning.pytorch",
    "lightning_sae.training.module",
    "lightning_sae.clip.loading.sources",
    "lightning_sae.data.datamodule",
    "callbacks.last_checkpoint",
)
"""What a fork need not import again. Nothing is computed before: threads of OpenMP do not survive a fork."""


def train(folder: Path, store: Path) -> int:
    """Start train.py in a fork of this process; its id."""
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


def ended(child: int, log: Path) -> bool:
    """Return whether the process is at its end, which has to be a good one."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if status:
        sys.exit(f"a training failed:\n{log.read_text()}")
    return pid != 0


def training_seconds(child: int, folder: Path, at_most: float = math.inf) -> float | None:
    """Wait until it trains, and then for its end, or for some seconds."""
    before, start = stamp(folder), None
    while not ended(child, folder.with_suffix(".log")):
        if start is None and stamp(folder) != before:
            start = time.monotonic()
        if start is not None and time.monotonic() - start >= at_most:
            return None
        time.sleep(0.005)
    return time.monotonic() - (start or time.monotonic())


def stamp(folder: Path) -> int:
    path = folder / "checkpoints" / "last.ckpt"
    return path.stat().st_mtime_ns if path.exists() else 0


def step(folder: Path) -> int:
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return int(checkpoint["global_step"])


def finished(folder: Path) -> bool:
    return json.loads((folder / "run.json").read_text())["metrics"] is not None


def killed_runs(folder: Path, store: Path, lasts: float, kills: int) -> tuple[list[Path], list[int]]:
    """Run that were killed so many times in all and came to their end; the steps that they went on from."""
    draw, steps, runs = random.Random(0), list[int](), list[Path]()
    while len(steps) < kills or not finished(runs[-1]):
        if not runs or finished(runs[-1]):
            runs.append(folder / f"run{len(runs)}")
        child = train(runs[-1], store)
        moment = draw.uniform(0, lasts) if len(steps) < kills else math.inf
        if training_seconds(child, runs[-1], moment) is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            steps.append(step(runs[-1]))
    return runs, steps


def check(run: Path, whole: Path) -> None:
    """Fail where the run differs from the undisturbed one."""
    for name in ("metrics.csv", "sae/sae.safetensors"):
        if step(run) != STEPS or (run / name).read_bytes() != (whole / name).read_bytes():
            sys.exit(f"{run.name}/{name} is not that of the undisturbed run")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    for name in IMPORTED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch), Path(scratch) / "store"
        whole = folder / "undisturbed"
        lasts = training_seconds(train(whole, store), whole)
        assert lasts is not None
        runs, steps = killed_runs(folder, store, lasts, options.kills)
        for run in runs:
            check(run, whole)
    print(f"{len(steps)} kills in {len(runs)} runs of {STEPS} steps, resumed from {steps}: as undisturbed")


if __name__ == "__main__":
    main()
