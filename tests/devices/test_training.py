"""Trainings on a device that is not the CPU: everything lies where it belongs."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_sae.sae import SparseAutoencoder

SMALL = [
    *("data.n_train=192", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("data.num_workers=0", "sae.d_sae=64", "sae.dead_after=64", "+module.top_n=5"),
    *("module.decay_fraction=0", "trainer.max_steps=4", "trainer.val_check_interval=4", "logger=csv"),
    *("callbacks.progress.refresh_rate=0",),
]
BARE = "callbacks=[progress,save_sae]"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def train(on_pretend, store, tmp_path_factory):
    def train(*overrides: str) -> pd.DataFrame:
        folder: Path = tmp_path_factory.mktemp("run")
        on_pretend(*SMALL, f"data.store_dir={store}", f"hydra.run.dir={folder}", *overrides)
        return pd.read_csv(folder / "metrics.csv")

    return train


@pytest.mark.parametrize("sae", ["topk", "batch_topk", "matryoshka", "relu", "gated", "jump_relu"])
def test_every_variant_with_dead_latents(train, sae, monkeypatch):
    some = property(lambda sae: torch.arange(sae.d_sae, device=sae.steps.device) < 8)
    monkeypatch.setattr(SparseAutoencoder, "dead", some)
    curve = train(f"sae={sae}", BARE, "trainer.log_every_n_steps=1")
    assert curve["val/fvu"].notna().any()
    assert (curve["train/aux"].dropna() > 0).any()


@pytest.mark.parametrize(
    "overrides",
    [
        ["module.bias=geometric_median"],
        ["module.rows=data"],
        ["module.bias=zero", "sae.normalisation=none"],
        ["sae.normalisation=layer_norm"],
        ["hook_point=visual.transformer.resblocks.1", "tokens=patch"],
        ["hook_point=visual.transformer.resblocks.1", "tokens=all"],
    ],
)
def test_every_start_normalisation_and_token_rule(train, overrides):
    assert train(BARE, *overrides)["val/fvu"].notna().any()


def test_every_callback_of_the_default(train):
    curve = train("callbacks.reliance.draws=50", "callbacks.alignment.draws=20")
    assert curve["alignment/mean"].notna().any()


def test_a_resumed_training_with_an_average_of_the_weights(train, on_pretend, store, tmp_path):
    given = [*SMALL, f"data.store_dir={store}", f"hydra.run.dir={tmp_path}"]
    given.append("callbacks=[progress,best_checkpoint,checkpoint,alignment,save_sae,ema]")
    on_pretend(*given)
    on_pretend(*given, "trainer.max_steps=8", f"ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert pd.read_csv(tmp_path / "metrics.csv")["val/fvu"].notna().sum() == 2
