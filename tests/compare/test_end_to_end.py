"""Two CLIPs trained by the experiment and compared, as a user types it."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    *("data.n_train=256", "data.n_val=160", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu"),
    *("trainer.max_steps=8", "trainer.val_check_interval=4", "trainer.log_every_n_steps=2"),
    *("callbacks.reliance.draws=100", "callbacks.reliance.min_images=3", "callbacks.progress.refresh_rate=0"),
]


def typed(*words):
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wandb_keys(records):
    """What can be laid side by side in W&B, but for its own."""
    items = [item for record in records for item in record.history.item]
    names = {"/".join(item.nested_key) or item.key for item in items}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_the_experiment_and_the_comparison(tmp_path, wandb_records):
    store, sweep = f"data.store_dir={tmp_path / 'store'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"
    typed("train.py", "-m", "experiment=compare_clips", *SMALL, store, sweep)
    said = typed("-m", "lightning_sae.compare", str(tmp_path / "sweep"))
    assert said.strip().splitlines()[-1].startswith("2 of 2 runs finished, 2 variants; compare.csv")
    out = tmp_path / "sweep" / "compare"
    table = pd.read_csv(out / "compare.csv")
    assert set(table["clip"]) == {"world_biased", "world_balanced"}
    logged = {run: pd.read_csv(tmp_path / "sweep" / str(run) / "metrics.csv") for run in (0, 1)}
    for run, fvu in zip(table["run"], table["val/fvu"], strict=True):
        assert fvu == pytest.approx(logged[run]["val/fvu"].dropna().iloc[-1], rel=1e-5)
    keys = [wandb_keys(wandb_records(tmp_path / "sweep" / run)) for run in "01"]
    assert keys[0] == keys[1] > {"val/fvu", "tables/latents/_type", "attribution/unexpected_share"}
    assert set(pd.read_csv(out / "concepts.csv")["variant"]) == {"world_biased", "world_balanced"}
    page = (out / "compare.html").read_text()
    assert "Which class relies on what" in page
    assert "were validated on different images" not in page
