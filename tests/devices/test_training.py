"""Trainings on a device that is not the CPU: everything lies where it belongs."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_sae.audit import read_audit
from lightning_sae.sae import SparseAutoencoder, load_sae

SMALL = [
    *("data.n_train=192", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("data.num_workers=0", "sae.d_sae=64", "sae.dead_after=64", "+module.top_n=5"),
    *("module.decay_fraction=0", "trainer.max_steps=4", "trainer.val_check_interval=4", "logger=csv"),
    *("callbacks.progress.refresh_rate=0",),
]
FEW = "callbacks.alignment.draws=20"
JUDGED = [FEW, *(f"callbacks.reliance.{key}" for key in ("draws=100", "min_images=1", "min_group=1"))]
PROBES = [
    *("hook_point=visual.transformer.resblocks.1", "tokens=patch"),
    *("callbacks=[default,probe_vs_prompt]", "callbacks.attribution.probe=true"),
    *("callbacks.attribution.prompts=[a photo of a star]",),
    *("callbacks.probe_vs_prompt.min_images=1", "callbacks.probe_vs_prompt.min_group=1"),
]
LAYERS = [
    "hook_points=[visual.transformer.resblocks.1,visual.transformer.resblocks.3]",
    *("callbacks=[progress,checkpoint,edges]", "callbacks.edges.n_images=2", "callbacks.edges.ablated=1"),
    *("callbacks.edges.sources=8", "callbacks.edges.targets=2"),
]
STEERED = [
    *("sae=matryoshka", "callbacks=[progress,checkpoint,hierarchy,steering]"),
    *("callbacks.steering.min_pairs=2", "callbacks.steering.sources.counterfactuals.per_value=3"),
    *("callbacks.steering.most_latents=4", "callbacks.steering.strengths=[0,1]"),
]
BARE = "callbacks=[progress,save_sae]"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def curve(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics.csv")


@pytest.fixture(scope="module")
def given(store):
    return [*SMALL, f"data.store_dir={store}"]


@pytest.fixture(scope="module")
def train(on_pretend, given, tmp_path_factory):
    def train(*overrides: str) -> Path:
        folder: Path = tmp_path_factory.mktemp("run")
        on_pretend(*given, f"hydra.run.dir={folder}", *overrides)
        return folder

    return train


@pytest.mark.parametrize("sae", ["topk", "batch_topk", "matryoshka", "relu", "gated", "jump_relu"])
def test_every_variant_with_dead_latents_learns_as_on_the_cpu(
    train, train_py, given, tmp_path, sae, monkeypatch
):
    some = property(lambda sae: torch.arange(sae.d_sae, device=sae.steps.device) < 8)
    monkeypatch.setattr(SparseAutoencoder, "dead", some)
    chosen = [f"sae={sae}", BARE, "trainer.log_every_n_steps=1"]
    folder = train(*chosen)
    assert train_py(*given, *chosen, f"hydra.run.dir={tmp_path}", "trainer.accelerator=cpu") == 0
    pd.testing.assert_frame_equal(curve(folder), curve(tmp_path), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        *(load_sae(of / "sae").state_dict() for of in (folder, tmp_path)), rtol=1e-3, atol=1e-4
    )
    assert curve(folder)["val/fvu"].notna().any()
    assert (curve(folder)["train/aux"].dropna() > 0).any()


@pytest.mark.parametrize(
    "overrides",
    [
        ["module.bias=geometric_median"],
        ["module.rows=data"],
        ["module.bias=zero", "sae.normalisation=none"],
        ["sae.normalisation=layer_norm"],
        ["hook_point=visual.transformer.resblocks.1", "tokens=patch"],
        ["hook_point=visual.transformer.resblocks.1", "tokens=all", "data.tokens_per_image=2"],
        ["data=world_captions", "hook_point=transformer.resblocks.1", "tokens=all", "module.rows=data"],
        ["data=world_joint", "hook_point=visual", "tokens=pooled", "module.bias=geometric_median"],
        ["module.rows=data", "data.memory_limit_gb=0"],  # the store stays in files
    ],
)
def test_every_start_normalisation_token_rule_and_store(train, overrides):
    assert curve(train(BARE, *overrides))["val/fvu"].notna().any()


@pytest.mark.parametrize(
    ("overrides", "measured"),
    [
        ([*JUDGED, *PROBES], "probe_vs_prompt/probe_100_culprit_share"),
        ([*JUDGED, "experiment=text_tower"], "attribution/unexpected_share"),
        ([FEW, "experiment=joint_embedding"], "modality/both"),
        (LAYERS, "edges/agreement"),
        (STEERED, "steering/auc"),
    ],
)
def test_every_callback_measures_as_on_the_cpu(train, train_py, given, tmp_path, overrides, measured):
    """The last pass of a training, and a pass of its checkpoint on the CPU; both measure everything."""
    folder = train(*overrides)
    again = ["task=validate", f"ckpt_path={folder}/checkpoints/last.ckpt", f"hydra.run.dir={tmp_path}"]
    assert train_py(*given, *overrides, *again, "trainer.accelerator=cpu") == 0
    found, expected = (curve(of).ffill().iloc[-1] for of in (folder, tmp_path))
    assert pd.notna(expected[measured])
    compared = expected.dropna().index.difference(["epoch", "step"])
    pd.testing.assert_series_equal(
        found[compared], expected[compared], rtol=1e-3, atol=1e-3, check_names=False
    )


def test_a_resumed_training_with_an_average_of_the_weights_and_an_audit(train, on_pretend, given):
    callbacks = "callbacks=[progress,best_checkpoint,checkpoint,alignment,latent_table,save_sae,audit,ema]"
    chosen = [callbacks, FEW, "callbacks.save_sae.every_validation=true"]
    folder = train(*chosen)
    again = ["trainer.max_steps=8", f"ckpt_path={folder}/checkpoints/last.ckpt", f"hydra.run.dir={folder}"]
    on_pretend(*given, *chosen, *again)
    assert curve(folder)["val/fvu"].notna().sum() == 2
    assert read_audit(folder).subject.images == 96
