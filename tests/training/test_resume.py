"""A run that was stopped anywhere ends as the undisturbed one, to the bit."""

import os
import signal

import pandas as pd
import pytest
import torch

STEPS = 7  # passes over the data end behind steps 3 and 6, validation passes behind 2, 4 and 6
SMALL = [
    *("data.n_train=192", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "sae.dead_after=100", "trainer.accelerator=cpu", "logger=csv"),
    *(f"trainer.max_steps={STEPS}", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"),
    "callbacks.progress.refresh_rate=0",
]
BARE = ("callbacks=[progress,best_checkpoint,checkpoint,save_sae]", "~clip@data.judge")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def train(train_py, store):
    """Runs train.py in a folder; the exit status."""

    def train(folder, *overrides):
        return train_py(*SMALL, *overrides, f"data.store_dir={store}", f"hydra.run.dir={folder}")

    return train


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder, *BARE) == 0
    return folder


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def best_score(folder):
    """What the run goes on to compare with, when it looks for its best checkpoint."""
    states = checkpoint(folder)["callbacks"]
    score = next(state for key, state in states.items() if "'monitor': 'val/fvu'" in key)["best_model_score"]
    return None if score is None else float(score)


def best_fvu(folder):
    table = pd.read_csv(folder / "metrics.csv")
    return table["val/fvu"].min() if "val/fvu" in table else None


def assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other or one != one


def assert_same_run(one, other, *tables):
    assert_same(checkpoint(one)["state_dict"], checkpoint(other)["state_dict"])
    assert_same(checkpoint(one)["optimizer_states"], checkpoint(other)["optimizer_states"])
    for name in ("metrics.csv", "sae/sae.safetensors", *tables):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("step", range(1, STEPS))
def test_stopped_by_slurm_behind_any_step(train, during, undisturbed, tmp_path, step):
    during(step, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert train(tmp_path, *BARE) == 128 + signal.SIGUSR1
    assert checkpoint(tmp_path)["global_step"] == step
    assert best_score(tmp_path) == pytest.approx(best_fvu(tmp_path))
    assert train(tmp_path, *BARE) == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_stopped_by_sigterm(train, during, undisturbed, tmp_path, step):
    during(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(tmp_path, *BARE) == 128 + signal.SIGTERM
    assert checkpoint(tmp_path)["global_step"] == step
    assert train(tmp_path, *BARE) == 0
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.parametrize("steps", [(3, 6), (2, 6), (3, 5), (3, 4, 6)])
def test_stopped_more_than_once(train, during, undisturbed, tmp_path, steps):
    """Where a pass over the data has ended, Lightning does not count the next one as started."""
    for step in steps:
        during(step, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert train(tmp_path, *BARE) == 128 + signal.SIGUSR1
        assert checkpoint(tmp_path)["global_step"] == step
    assert train(tmp_path, *BARE) == 0
    assert_same_run(tmp_path, undisturbed)


def test_several_hook_points(train, during, tmp_path):
    point, name = "visual.transformer.resblocks.1", "resblocks.1"
    both = f"hook_points=[{point},visual.transformer.resblocks.3]"
    assert train(tmp_path / "undisturbed", *BARE, both) == 0
    during(6, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert train(tmp_path / "stopped", *BARE, both) == 128 + signal.SIGUSR1
    assert train(tmp_path / "stopped", *BARE, both) == 0
    weights = f"layers/{name}/sae/sae.safetensors"
    assert_same_run(tmp_path / "stopped", tmp_path / "undisturbed", weights)


@pytest.mark.slow
def test_with_all_callbacks(train, during, tmp_path):
    few = ["callbacks.reliance.draws=100", "callbacks.alignment.draws=50", "data.n_val=160"]
    assert train(tmp_path / "undisturbed", *few) == 0
    during(5, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert train(tmp_path / "stopped", *few) == 128 + signal.SIGUSR1
    assert train(tmp_path / "stopped", *few) == 0
    tables = ("latents.csv", "attribution.csv", "reliance.csv", "truth.csv")
    assert_same_run(tmp_path / "stopped", tmp_path / "undisturbed", *tables)
