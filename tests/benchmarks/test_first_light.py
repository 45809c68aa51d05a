"""The embedded default, whole: what the README promises of `python train.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lightning_sae.world import plants

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("cache")
    command = [sys.executable, "train.py", f"hydra.run.dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)})
    return folder


@pytest.fixture(scope="module")
def last(run):
    return pd.read_csv(run / "metrics.csv").ffill().iloc[-1]


def test_reconstruction(last):
    assert last["val/fvu"] <= 0.05
    assert last["val/l0"] <= 16
    assert last["train/dead_fraction"] <= 0.05


def test_the_spliced_clip_sees_what_the_original_sees(last):
    for key in ("", "_colour"):
        assert last[f"zero_shot/spliced{key}"] == pytest.approx(last[f"zero_shot/original{key}"], abs=0.05)


@pytest.mark.parametrize("plant", plants("spurious"), ids=lambda plant: plant.thing)
def test_the_planted_background_is_named_and_flagged(run, plant):
    attribution, reliance = (pd.read_csv(run / f"{name}.csv") for name in ("attribution", "reliance"))
    top = attribution[attribution["class"] == plant.thing].nlargest(5, "attribution")
    named = top[top["label"] == f"{plant.factor} background"]["latent"]
    assert named.isin(reliance[reliance["class"] == plant.thing]["latent"]).any()
