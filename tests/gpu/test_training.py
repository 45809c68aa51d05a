"""Training on a GPU: resumed to the bit, in mixed precision, on two of them."""

import os
import signal

import pandas as pd
import pytest
import torch

STEPS = 60
BARE = "callbacks=[progress,best_checkpoint,checkpoint,save_sae]"
SHORT = [f"trainer.max_steps={STEPS}", "trainer.val_check_interval=24", "trainer.log_every_n_steps=1"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def last_checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def tensors_of(state):
    """All tensors in a nest of dictionaries and lists, in order."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from tensors_of(part)


def fvu(folder):
    return float(pd.read_csv(folder / "metrics.csv")["val/fvu"].dropna().iloc[-1])


@pytest.mark.parametrize("sae", ["topk", "batch_topk"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(train_here, during, tmp_path, sae):
    overrides = [*SHORT, BARE, f"sae={sae}", "sae.dead_after=4096", "trainer.deterministic=true"]
    assert train_here(tmp_path / "whole", *overrides) == 0
    during(37, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train_here(tmp_path / "half", *overrides) != 0
    assert last_checkpoint(tmp_path / "half")["global_step"] == 37
    assert train_here(tmp_path / "half", *overrides) == 0
    whole, half = (last_checkpoint(tmp_path / name) for name in ("whole", "half"))
    for part in ("state_dict", "optimizer_states"):
        pairs = list(zip(tensors_of(whole[part]), tensors_of(half[part]), strict=True))
        assert len(pairs) >= 4
        assert all(torch.equal(*pair) for pair in pairs)
    for name in ("metrics.csv", "sae/sae.safetensors"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_mixed_precision_learns_as_much(train_here, tmp_path, say):
    longer = ["trainer.max_steps=400", "trainer.val_check_interval=400", BARE]
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        assert train_here(tmp_path / precision, *longer, f"trainer.precision={precision}") == 0
        found[precision] = fvu(tmp_path / precision)
    say(", ".join(f"{precision}: val/fvu {value:.4f}" for precision, value in found.items()))
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], rel=0.2)
    weights = last_checkpoint(tmp_path / "bf16-mixed")["state_dict"]
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float32}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one(train_on, tmp_path):
    alone = train_on(tmp_path / "one", *SHORT, "data.batch_size=1024")
    both = train_on(tmp_path / "two", *SHORT, "trainer=ddp", "trainer.devices=2", "data.batch_size=512")
    assert "devices: 2 processes, the first on cuda:0 (" in both.said
    assert fvu(both.folder) == pytest.approx(fvu(alone.folder), rel=0.02)
    first, second = (pd.read_csv(run.folder / "metrics.csv")["train/loss"].dropna() for run in (alone, both))
    assert second.iloc[0] == pytest.approx(first.iloc[0], rel=1e-5)
