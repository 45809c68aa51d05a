"""A short edition of each benchmark, for correctness: figures come from the long ones."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
SHORT = [
    *("data.n_train=256", "data.n_val=160", "data.n_test=120", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=4", "trainer.val_check_interval=4", "callbacks.reliance.draws=100"),
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def benchmark(runs):
    def benchmark(name, *arguments):
        command = [sys.executable, f"benchmarks/{name}.py", *arguments]
        environment = {**os.environ, "XDG_CACHE_HOME": str(runs / "cache")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return benchmark


def test_attribution(benchmark):
    said = benchmark("attribution", "--short")
    assert "last layer, closed form" in said
    assert "from sums" in said


def test_edges_of_the_hand_wired_model(benchmark):
    assert "average precision" in benchmark("edges")


@pytest.mark.slow
def test_interpretability_cost(benchmark):
    said = benchmark("interpretability_cost", "--short", "--no-growth", "--steps", "3")
    assert "added to an epoch" in said
    assert "added to a training of 30 epochs" in said
    assert {"quality", "baselines"} < set(said.split())


@pytest.mark.slow
def test_stable_starts(benchmark, runs):
    arguments = ("--short", "--seeds", "0", "1", "2", "--batch", "64", "--out", str(runs / "starts"))
    said = benchmark("stable_starts", *arguments)
    assert "pooled, 5 x cost" in said
    assert "less random, same seeds" in said
    assert benchmark("stable_starts", *arguments).count("±") == said.count("±")  # from what was kept


@pytest.mark.slow
def test_first_light_and_what_shares_its_runs(benchmark, runs):
    said = benchmark("first_light", "--seeds", "0", "--out", str(runs), *SHORT)
    assert "unexpected share" in said
    said = benchmark("reliance", "--seeds", "0", "--runs", str(runs))
    assert "mean average precision" in said
    assert (runs / "reliance_cases.csv").exists()
    said = benchmark("audit", "--seeds", "0", "--runs", str(runs))
    assert "balanced CLIP: " in said
    assert len((runs / "audit_cases.csv").read_text().splitlines()) == 1 + 12
    cases = runs / "steering.csv"
    said = benchmark("steering", "--seeds", "0", "--runs", str(runs), "--per-value", "6", "--out", str(cases))
    rows = pd.read_csv(cases)
    assert len(rows) == 4 * 12  # planted cases by latents, probe, text and difference of means
    assert rows["lost"].between(0, 1).all()
    table = runs / "corrections.csv"
    corrections = ("corrections", "--seeds", "0", "--classifiers", "prompts")
    said = benchmark(*corrections, "--runs", str(runs), "--out", str(table))
    rows = pd.read_csv(table)
    assert len(rows) == 2 * 12  # planted cases, corrected and shifted; a probe wants more images
    assert set(rows["way"]) == {"best on val", "shift"}
    assert "loses most" in said
    assert rows[["worst", "worst_after", "accuracy", "accuracy_after"]].stack().between(0, 1).all()


@pytest.mark.slow
def test_sanity(benchmark, runs):
    out, page = runs / "sanity", runs / "sanity.md"
    small = [word for word in SHORT if not word.startswith("logger")]
    arguments = ("--out", str(out), "--seeds", "0", "1", "--data", "world", "--page", str(page), *small)
    assert "over 2 seeds" in benchmark("sanity", *arguments)
    table = pd.read_csv(out / "sanity.csv")
    assert set(table["baseline"]) == {"untrained", "neurons", "components", "shuffled", "random_clip"}
    assert (table["mean"] - (table["trained"] - table["baseline_value"])).abs().max() < 1e-6
    fvu = table[(table["key"] == "val/fvu") & (table["baseline"] == "untrained")].iloc[0]
    assert fvu["low"] <= fvu["mean"] <= fvu["high"]
    assert page.read_text().startswith("### world")


@pytest.mark.slow
def test_hierarchies(benchmark):
    said = benchmark("hierarchies", "--short", "--seeds", "0", "1")
    assert all(said.count(name) >= 3 for name in ("TopK", "BatchTopK", "Matryoshka"))
    assert "seed mean: " in said


@pytest.mark.slow
def test_faithfulness(benchmark, runs):
    said = benchmark("faithfulness", "--images", "24", "--out", str(runs), *SHORT)
    assert said.count("integrated_gradients > random") == 2


@pytest.mark.slow
def test_sweep(benchmark):
    small = [
        word for word in SHORT if not word.startswith(("data.n_train", "data.n_val", "trainer.", "sae.k"))
    ]
    said = benchmark("sweep", "--short", "--images", "240", "--steps", "4", *small)
    cells = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    counts = [int(row[2].replace(",", "")) for row in cells]
    assert counts == [240 + 2 * 40, 2 * (240 + 2 * 40)]  # the judge sees the validation images as well


@pytest.mark.slow
@pytest.mark.parametrize("name", ["visaebench", "sae_lens"])
def test_yardsticks_of_peers(benchmark, small_patch_run, name):
    pytest.importorskip(name, reason=f"pip install {name}, in an environment of its own")
    said = benchmark(
        {"visaebench": "visaebench_scores", "sae_lens": "saelens_evals"}[name], str(small_patch_run)
    )
    assert "the same definition" in said
