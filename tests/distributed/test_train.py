"""train.py on several processes: the files of one, and an end for all."""

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from lightning_sae.data.claims import claimed
from lightning_sae.world import World

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data.n_train=256", "data.n_val=161", "data.n_test=1", "data.n_probe=48", "data.eval_batch_size=32"),
    *("sae.d_sae=64", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=2"),
    *(
        "callbacks.reliance.draws=100",
        "callbacks.progress.refresh_rate=0",
        "callbacks.attribution.probe=true",
    ),
    *("callbacks.attribution.prompts=[star, moon]", "callbacks.faithfulness.n_images=40"),
]
TABLES = [
    *("attribution", "baselines", "faithfulness", "latents", "pairs", "prompts", "reliance"),
    *("reliance_groups", "truth"),
]
pytestmark = pytest.mark.timeout(900)
FOREVER = [
    "callbacks=checkpoint",
    "trainer.max_steps=-1",
    "trainer.log_every_n_steps=1",
    "data.batch_size=32",
]


@pytest.fixture(scope="module")
def launch(store, spawn):
    """Starts train.py as a user does."""

    def launch(folder, *overrides):
        alone = "callbacks=checkpoint" in overrides
        small = [word for word in SMALL if not (alone and word.startswith("callbacks."))]
        return spawn("train.py", *small, f"data.store_dir={store}", f"hydra.run.dir={folder}", *overrides)

    return launch


def is_rank(pid):
    """Whether a process runs train.py; others of the group are helpers of PyTorch."""
    return b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def finish(process):
    """What it said on the standard output, when it has ended well."""
    out, err = process.communicate(timeout=850)
    assert process.returncode == 0, err[-3000:]
    return out


def members(process):
    """Living processes of its group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rsplit(") ", 1)[1].split()[:3]
        except OSError:
            continue
        if int(group) == process.pid and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, launch):
    """The run folder of two processes, and what they said."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    return folder, finish(launch(folder, "trainer=ddp", "data.batch_size=32", "sae.k=4"))


def test_two_processes_write_one_run_folder(fitted):
    folder, said = fitted
    names = {path.name for path in folder.iterdir()}
    others = {".hydra", "checkpoints", "sae", "pictures", "run.json", "image_latents.safetensors"}
    assert names == {f"{table}.csv" for table in [*TABLES, "metrics"]} | others | {"report.html"}
    assert said.count("Everything lies in") == said.count("report.html") == 1
    curve = pd.read_csv(folder / "metrics.csv")
    assert curve["step"].dropna().tolist() == [1, 3, 3, 5, 7, 7, 8]


@pytest.mark.parametrize("n", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_every_file_of_a_checkpoint_is_the_same_on_any_number(fitted, launch, tmp_path, n):
    folder, _ = fitted
    again = ["task=validate", f"ckpt_path={folder}/checkpoints/last.ckpt", "sae.k=4"]
    several = ["trainer=ddp", f"trainer.devices={n}"] if n > 1 else []
    finish(launch(tmp_path, *again, *several))
    for name in TABLES:
        assert (tmp_path / f"{name}.csv").read_bytes() == (folder / f"{name}.csv").read_bytes(), name
    one, two = (pd.read_csv(path / "metrics.csv") for path in (tmp_path, folder))
    one, two = one.iloc[-1].drop(["step", "epoch"]), two[two["val/fvu"].notna()].iloc[-1]
    assert len(one) > 80
    pd.testing.assert_series_equal(one, two[one.index], check_names=False, rtol=0, atol=0)


@pytest.mark.slow
def test_a_training_in_float64_leaves_the_same_tables(launch, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    precise = ["sae.k=4", "sae.dead_after=200", "trainer.precision=64-true"]
    finish(launch(one, *precise, "data.batch_size=64"))
    finish(launch(two, *precise, "data.batch_size=32", "trainer=ddp"))
    for name in TABLES:
        assert (one / f"{name}.csv").read_bytes() == (two / f"{name}.csv").read_bytes(), name
    curves = [pd.read_csv(path / "metrics.csv") for path in (one, two)]
    pd.testing.assert_frame_equal(curves[1], curves[0], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("folders", [("4", "8"), ("one", "one")])
def test_ranks_with_different_configs_refuse_to_start(ranks, store, tmp_path, folders):
    """Also where the first has just begun the folder that the second one looks at."""
    small = [*SMALL, f"data.store_dir={store}", "trainer=ddp", "data.batch_size=32"]
    commands = [
        ["train.py", *small, f"sae.k={k}", f"hydra.run.dir={tmp_path / folder}"]
        for k, folder in zip((4, 8), folders, strict=True)
    ]
    for done in ranks(*commands):
        assert done.returncode == 1
        assert "sae.k is 4 on rank 0, 8 on rank 1" in done.stderr
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.slow
def test_what_one_rank_refuses_all_refuse(ranks, store, tmp_path):
    """Here the folder is in use, which the first alone looks at."""
    small = [*SMALL, f"data.store_dir={store}", "trainer=ddp", "data.batch_size=32", "sae.k=4"]
    with claimed(tmp_path / ".running.lock", "", ""):
        for done in ranks(*[["train.py", *small, f"hydra.run.dir={tmp_path}"]] * 2):
            assert done.returncode == 1
            assert f"is in use by process {os.getpid()} on " in done.stderr


@pytest.mark.slow
def test_ranks_that_see_other_images_refuse_to_start(ranks, store, tmp_path):
    """Under one path, as two machines may: here the second one reads it from another current folder."""
    small = [word for word in SMALL if not word.startswith(("data.n_t", "data.n_val"))]
    commands = []
    for rank in range(2):
        world = World("biased", "test", 161, seed=rank)
        for i in range(161):
            path = tmp_path / str(rank) / "images" / world.class_names[i % 2] / f"{i}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            world.image(i).save(path)
        arguments = [*small, f"data.store_dir={store}", "trainer=ddp", f"hydra.run.dir={tmp_path / 'run'}"]
        code = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(tmp_path / str(rank))!r}); "
        code += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
        arguments = [*arguments, "data=image_folder", "data.root=images", "data.batch_size=16"]
        script = tmp_path / f"{rank}.py"
        script.write_text(f"import sys; sys.argv[0] = {str(ROOT / 'train.py')!r}; {code}")
        commands.append([str(script), *arguments])
    for done in ranks(*commands):
        assert done.returncode == 1
        assert "the processes see different images: train.files is " in done.stderr
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.slow
def test_a_multirun_that_would_start_processes_is_refused(launch, tmp_path):
    sweep = [f"hydra.sweep.dir={tmp_path}", "seed=0,1", "trainer=ddp", "--multirun"]
    process = launch(tmp_path / "unused", *sweep)
    _, said = process.communicate(timeout=850)
    assert process.returncode == 1
    assert "a job of a multirun cannot start 2 processes by itself" in said
    assert not members(process)


def wait_for_steps(process, folder):
    deadline = time.monotonic() + 900
    curve = folder / "metrics.csv"
    while not (curve.exists() and len(curve.read_text().splitlines()) > 5):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_when_one_process_ends_all_do(launch, tmp_path, number, rank):
    process = launch(tmp_path, *FOREVER, "trainer=ddp")
    wait_for_steps(process, tmp_path)
    (child,) = (pid for pid in members(process) if pid != process.pid and is_rank(pid))
    os.kill([process.pid, child][rank], number)
    process.communicate(timeout=300)
    assert process.returncode != 0
    deadline = time.monotonic() + 300
    while members(process) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not members(process)
