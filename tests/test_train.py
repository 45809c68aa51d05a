"""train.py from end to end, on a few pictures."""

import json
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from lightning_sae.world import World

ROOT = Path(__file__).parents[1]
SMALL = [
    *("data.n_train=256", "data.n_val=160", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu"),
    *("trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=2"),
    *("callbacks.reliance.draws=100", "callbacks.progress.refresh_rate=0", "~callbacks.report"),
    *("callbacks.pairs.sources.counterfactuals.per_value=2", "callbacks.pairs.min_pairs=4"),
]

ALWAYS = ("callbacks.truth.probe_every=1", "callbacks.faithfulness.every=1")  # else also at a run's end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def train(train_py, store):
    """Runs train.py with a small setting and some overrides."""

    def train(folder, *overrides, small=SMALL):
        given = [*small, f"data.store_dir={store}", "logger=csv", f"hydra.run.dir={folder}", *overrides]
        if said := train_py(*given):
            raise SystemExit(said)
        return folder

    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run whose every pass measures all that there is."""
    return train(tmp_path_factory.mktemp("whole"), *ALWAYS)


def curve(folder):
    return pd.read_csv(folder / "metrics.csv")


def last_validation(folder):
    table = curve(folder)
    return table[table["val/fvu"].notna()].iloc[-1].drop(["step", "epoch"])


def test_the_command_leaves_a_run_folder(store, tmp_path):
    small = [word for word in SMALL if word != "~callbacks.report"]
    command = [sys.executable, "train.py", *small, f"data.store_dir={store}", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "FVU" in done.stdout
    assert str(tmp_path) in done.stdout.replace("\n", "")
    names = {path.name for path in tmp_path.iterdir()}
    tables = "metrics latents attribution reliance reliance_groups faithfulness truth pairs baselines"
    others = {".hydra", "checkpoints", "sae", "pictures", "wandb", "run.json", "image_latents.safetensors"}
    assert names == {f"{table}.csv" for table in tables.split()} | others | {"report.html"}
    assert done.stdout.splitlines()[-1].endswith("report.html")
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    keys = "train/loss val/fvu val/l0 alignment/mean attribution/unexpected_share zero_shot/spliced"
    assert {*keys.split(), "train/dead_fraction", "zero_shot/spliced_worst"} <= set(curve(tmp_path))
    assert curve(tmp_path)["val/fvu"].notna().sum() == 2
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1


def test_a_resumed_run_equals_the_uninterrupted_one(train, whole, tmp_path):
    half = train(tmp_path / "half", *ALWAYS, "trainer.max_steps=4")
    train(half, *ALWAYS, f"ckpt_path={half}/checkpoints/last.ckpt")
    expected, resumed = curve(whole), curve(half)
    assert resumed["step"].tolist() == expected["step"].tolist()
    pd.testing.assert_frame_equal(resumed[expected.columns], expected, rtol=1e-4, atol=1e-5)
    for name in ("latents.csv", "reliance.csv"):
        assert len(pd.read_csv(half / name)) == len(pd.read_csv(whole / name))


def test_validate_logs_what_fit_logged(train, whole, tmp_path):
    again = train(tmp_path, *ALWAYS, "task=validate", f"ckpt_path={whole}/checkpoints/last.ckpt")
    expected = last_validation(whole).dropna()
    pd.testing.assert_series_equal(
        last_validation(again)[expected.index], expected, check_names=False, rtol=1e-5, atol=1e-6
    )
    assert (again / "pictures" / "gallery.png").exists()


def test_one_class_and_one_latent(train, tmp_path):
    world = World("biased", "test", 60)
    (tmp_path / "images" / "star").mkdir(parents=True)
    for i in range(60):
        world.image(i).save(tmp_path / "images" / "star" / f"{i}.png")
    small = [word for word in SMALL if not word.startswith("data.n_t") and "n_val" not in word]
    data = ["data=image_folder", f"data.root={tmp_path / 'images'}", "data.batch_size=32"]
    attribution = ["output=cosine", "over=all", "prompts=[star]"]
    given = [*data, "sae.d_sae=1", "sae.k=1", *(f"callbacks.attribution.{key}" for key in attribution)]
    folder = train(tmp_path / "run", *given, small=small)
    assert pd.read_csv(folder / "attribution.csv")["class"].tolist() == ["star"]
    assert len(pd.read_csv(folder / "prompts.csv")) == len(pd.read_csv(folder / "latents.csv")) == 1


def test_last_ckpt_is_the_last_also_when_it_is_not_the_best(train, tmp_path):
    run = train(
        tmp_path, "callbacks.best_checkpoint.mode=max", "trainer.max_steps=12"
    )  # FVU falls from the start
    fvu = curve(run)["val/fvu"].dropna().tolist()
    assert fvu == sorted(fvu, reverse=True)
    for name, step in {"best.ckpt": 4, "last.ckpt": 12}.items():
        checkpoint = torch.load(run / "checkpoints" / name, weights_only=True)
        assert checkpoint["global_step"] == step


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sae.k=65", "k must be in 1..d_sae=64, got 65"),
        ("hook_point=visual.transformer.resblock.3", "has no module 'visual.transformer.resblock.3'"),
        ("ckpt_path=nowhere.ckpt", "nowhere.ckpt"),
        ("callbacks.attribution.output=logits", "output must be one of cosine, logit, margin"),
        ("callbacks.best_checkpoint.monitor=val/fvv", "the monitor of ModelCheckpoint names 'val/fvv'"),
        ("+callbacks.audit.level=0.1", "callbacks.audit has settings (level), and audit is not in the list"),
        (
            "+logger.wandb.project=mine",
            "add it, logger=[..., wandb], or leave its settings out, '~logger.wandb'",
        ),
        ("optimized_metric=attribution/unexpected", "did you mean attribution/unexpected_share"),
    ],
)
def test_a_bad_value_ends_in_one_message(train, tmp_path, override, message):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, override)
    assert message in str(stop.value.code)
    assert "HYDRA_FULL_ERROR" in str(stop.value.code)
    assert not (tmp_path / "metrics.csv").exists()
    assert not (tmp_path / "checkpoints").exists()


def test_the_whole_traceback_is_there_for_who_asks(train, tmp_path, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="k must be"):
        train(tmp_path, "sae.k=65")


def test_an_interrupt_says_how_to_go_on(train, tmp_path, monkeypatch, capfd):
    def interrupted(*args, **kwargs):
        raise SystemExit(1)

    monkeypatch.setattr(pl.Trainer, "fit", interrupted)
    with pytest.raises(SystemExit):
        train(tmp_path)
    assert "before the first checkpoint" in capfd.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(SystemExit):
        train(tmp_path)
    said = capfd.readouterr().err
    assert f"hydra.run.dir={tmp_path}" in said
    assert "sae.d_sae=64" in said


def test_help_is_readable():
    done = subprocess.run(
        [sys.executable, "train.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    for words in (
        "hook_point=PATH",
        "sae: batch_topk, gated, jump_relu, matryoshka, relu, topk",
        "hydra.run.dir=RUN",
        "~callbacks.NAME",
    ):
        assert words in done.stdout
    assert "_target_" not in done.stdout
    assert len(done.stdout.splitlines()) < 60


def test_a_clip_that_learned_nothing_is_a_baseline_and_no_judge(train, tmp_path, capsys):
    train(tmp_path, "experiment=random_clip", "~callbacks.faithfulness", "~callbacks.gallery")
    *_, last, _ = capsys.readouterr().out.split("\n\n")[-1].strip().splitlines()
    assert "random seed 0: CLIP has learned nothing" in last
    made_for = json.loads((tmp_path / "sae" / "cfg.json").read_text())["provenance"]["clip"]
    assert made_for["pretrained"] == "random seed 0"
    with pytest.raises(SystemExit, match="judge of what latents mean has to have learned"):
        train(tmp_path / "alone", "experiment=random_clip", "~clip@data.judge")
