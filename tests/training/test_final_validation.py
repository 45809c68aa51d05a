"""Tables, record and saved autoencoder are of the same weights, whichever way a fit ends."""

import json

import pandas as pd
import pytest
import torch

from lightning_sae.sae import load_sae

SMALL = [
    *("data.n_train=320", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.num_sanity_val_steps=1", "callbacks.progress.refresh_rate=0", "callbacks.alignment.draws=20"),
    "~clip@data.judge",
]

WITHIN_A_PASS = ["trainer.val_check_interval=1.0", "trainer.check_val_every_n_epoch=1"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def run(train_py, store):
    """Runs train.py in a folder."""

    def run(folder, *overrides, callbacks="progress,best_checkpoint,checkpoint,save_sae"):
        given = [f"callbacks=[{callbacks}]", f"data.store_dir={store}", f"hydra.run.dir={folder}"]
        small = [word for word in SMALL if "alignment" in callbacks or "alignment" not in word]
        assert train_py(*small, *given, *overrides) == 0
        return folder

    return run


def validated(folder):
    """Steps of the validation passes; they are counted from 0."""
    curve = pd.read_csv(folder / "metrics.csv")
    return curve.loc[curve["val/fvu"].notna(), "step"].tolist()


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_steps=8", "trainer.val_check_interval=4"], [3, 7]),
        (["trainer.max_steps=7", "trainer.val_check_interval=4"], [3, 6]),
        (["trainer.max_steps=3", "trainer.val_check_interval=100"], [2]),
        (["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.val_check_interval=4"], [3, 7, 9]),
        (["trainer.max_steps=6", *WITHIN_A_PASS], [4, 5]),
        (["trainer.max_steps=7", "trainer.val_check_interval=4", "+trainer.max_time=00:01:00:00"], [3, 6]),
        (
            ["trainer.max_steps=5", "trainer.val_check_interval=1", "+trainer.limit_train_batches=3"],
            [0, 1, 2, 3, 4],
        ),
    ],
)
def test_the_last_step_is_validated_once(run, tmp_path, overrides, steps):
    run(tmp_path, *overrides)
    assert validated(tmp_path) == steps
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    weights = load_sae(tmp_path / "sae").W_dec
    assert torch.equal(checkpoint["state_dict"]["sae.W_dec"], weights)
    curve = pd.read_csv(tmp_path / "metrics.csv")
    found = json.loads((tmp_path / "run.json").read_text())["metrics"]["val/fvu"]
    assert found == pytest.approx(curve["val/fvu"].dropna().iloc[-1])
    card = json.loads((tmp_path / "sae" / "cfg.json").read_text())["metrics"]
    assert card["val/fvu"] == pytest.approx(found)


def test_a_longer_training_goes_on_behind_it(run, tmp_path):
    every = ("trainer.val_check_interval=4", "trainer.log_every_n_steps=1")
    whole = run(tmp_path / "whole", "trainer.max_steps=8", *every)
    part = run(tmp_path / "part", "trainer.max_steps=6", *every)
    last = f"ckpt_path={part}/checkpoints/last.ckpt"
    run(part, last, "trainer.max_steps=8", *every)
    assert validated(part) == [3, 5, 7]
    losses = [pd.read_csv(path / "metrics.csv").dropna(subset=["train/loss"]) for path in (whole, part)]
    assert losses[0]["step"].tolist() == losses[1]["step"].tolist() == [*range(8)]
    assert losses[0]["train/loss"].tolist() == pytest.approx(losses[1]["train/loss"].tolist())


def test_tables_are_of_the_last_step(run, tmp_path):
    """A table written at the end of a fit is that which a validation of its checkpoint writes."""
    callbacks = "progress,checkpoint,alignment,latent_table,save_sae"
    run(tmp_path / "fit", "trainer.max_steps=3", "trainer.val_check_interval=2", callbacks=callbacks)
    last = f"ckpt_path={tmp_path}/fit/checkpoints/last.ckpt"
    run(tmp_path / "again", last, "task=validate", "trainer.val_check_interval=2", callbacks=callbacks)
    tables = [(tmp_path / name / "latents.csv").read_bytes() for name in ("fit", "again")]
    assert tables[0] == tables[1]


def test_an_average_of_weights_is_validated(run, tmp_path):
    run(tmp_path, "trainer.max_steps=3", "trainer.val_check_interval=2", callbacks="progress,save_sae,ema")
    assert validated(tmp_path) == [1, 2]


def test_a_fit_that_another_callback_ends_is_validated(run, tmp_path, monkeypatch):
    from callbacks.progress import StepProgress

    def stop(self, trainer, module):
        trainer.should_stop = True

    monkeypatch.setattr(StepProgress, "on_train_epoch_end", stop)
    run(tmp_path, "trainer.max_steps=100", "trainer.val_check_interval=3")
    assert validated(tmp_path) == [2, 5]
