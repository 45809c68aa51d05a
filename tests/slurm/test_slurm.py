"""Sweeps on a real SLURM of one machine: an array, a job that is requeued by either way, two processes."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).parents[2]
CLUSTER = Path(__file__).with_name("cluster.sh")
STEPS = 3000
SMALL = [
    *("data.n_train=320", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "trainer.accelerator=cpu", "logger.wandb.offline=true"),
    *(f"trainer.max_steps={STEPS}", "trainer.val_check_interval=1000", "trainer.log_every_n_steps=20"),
    *("callbacks=[progress,best_checkpoint,checkpoint,save_sae]", "callbacks.progress.refresh_rate=0"),
]
LAUNCHER = [
    *("hydra/launcher=slurm_cpu", "hydra.launcher.partition=main", "hydra.launcher.mem_gb=null"),
    *("hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=30"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="wants root, to start SLURM"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster(debian, tmp_path_factory):
    if not (shutil.which("slurmctld") and shutil.which("munged")):
        debian("slurm-wlm", "munge")
    home = tmp_path_factory.mktemp("slurm")
    environment = {**os.environ, "SLURM_HOME": str(home)}
    subprocess.run([str(CLUSTER), "start"], env=environment, check=True, timeout=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(home / "slurm.conf"))
        patch.setenv("OMP_NUM_THREADS", "1")  # the same bits in each job
        yield
    subprocess.run([str(CLUSTER), "stop"], env=environment, check=True, timeout=60)


def start(folder, store, *overrides):
    given = [*SMALL, *LAUNCHER, f"data.store_dir={store}", f"hydra.sweep.dir={folder}", *overrides]
    return subprocess.Popen([sys.executable, "train.py", "-m", *given], cwd=ROOT)


def wait_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{condition.__name__} did not come true in {seconds} s"
        time.sleep(0.2)


def jobs(state="PENDING,RUNNING"):
    """Ids of the jobs of a state."""
    command = ["squeue", "--noheader", "--format=%i", f"--states={state}"]
    return sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def rows(folder):
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(one, other):
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    pairs = zip(weights(one).items(), weights(other).items(), strict=True)
    assert all(name == same and torch.equal(x, y) for (name, x), (same, y) in pairs)


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    """An array of two jobs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, store, "sae.k=4,8").wait(900) == 0
    return folder


def test_an_array_runs_each_job(undisturbed):
    assert [(undisturbed / name / "sae").is_dir() for name in "01"] == [True, True]
    assert len(list((undisturbed / ".submitit").glob("*_0"))) == 1


def test_requeued_jobs_go_on_without_a_seam(undisturbed, store, tmp_path, wandb_curve):
    """The first job gets the signal of a preemption, the second is requeued as it runs."""
    sweep = start(tmp_path, store, "sae.k=4,8", "callbacks.checkpoint.minutes=0.01")

    def both_train():
        return min(rows(tmp_path / "0"), rows(tmp_path / "1")) > 10

    wait_for(both_train)
    first, second = jobs()
    subprocess.run(["scancel", "--signal=USR2", first], check=True)
    subprocess.run(["scontrol", "requeue", second], check=True)

    def both_wait():
        return jobs("PENDING") == [first, second]

    wait_for(both_wait, 120)
    for job in (first, second):  # SLURM lets a requeued job wait for two minutes
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
    assert sweep.wait(900) == 0
    for name in "01":
        assert_same_run(tmp_path / name, undisturbed / name)
        assert len(list((tmp_path / name / "wandb").glob("offline-run-*"))) >= 2
        for key in ("train/loss", "val/fvu"):
            curve = pd.read_csv(tmp_path / name / "metrics.csv").set_index("step")[key].dropna()
            assert wandb_curve(tmp_path / name, key) == curve.to_dict()


def test_two_processes_of_a_job_train_as_one(store, tmp_path, train_py):
    short = ["trainer.precision=64-true", "trainer.max_steps=50", "trainer.val_check_interval=50"]
    devices = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=32"]
    assert start(tmp_path / "two", store, *short, *devices).wait(900) == 0
    alone = [*SMALL, *short, f"data.store_dir={store}", f"hydra.run.dir={tmp_path / 'one'}"]
    assert train_py(*alone) == 0
    two, one = weights(tmp_path / "two" / "0"), weights(tmp_path / "one")
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6)
    assert rows(tmp_path / "two" / "0") == rows(tmp_path / "one") > 1
