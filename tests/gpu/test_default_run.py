"""`python train.py` on a GPU: it ends, on the GPU, with the findings that the README promises."""

import pandas as pd
import pytest

from lightning_sae.world import plants


@pytest.fixture(scope="module")
def last(default_run):
    return pd.read_csv(default_run.folder / "metrics.csv").ffill().iloc[-1]


def test_it_says_that_it_trains_on_the_gpu(default_run, say):
    (line,) = [line for line in default_run.said.splitlines() if line.startswith("device: ")]
    assert line.startswith("device: cuda:0 (")
    say(f"the default run took {default_run.seconds:.1f} s, {line}")


def test_reconstruction(last, say):
    say(", ".join(f"{key} {last[key]:.4f}" for key in ("val/fvu", "val/l0", "train/dead_fraction")))
    assert last["val/fvu"] <= 0.05
    assert last["val/l0"] <= 16
    assert last["train/dead_fraction"] <= 0.05


def test_the_spliced_clip_sees_what_the_original_sees(last):
    for key in ("", "_colour"):
        assert last[f"zero_shot/spliced{key}"] == pytest.approx(last[f"zero_shot/original{key}"], abs=0.05)


@pytest.mark.parametrize("plant", plants("spurious"), ids=lambda plant: plant.thing)
def test_the_planted_background_is_named_and_flagged(default_run, plant):
    folder = default_run.folder
    attribution, reliance = (pd.read_csv(folder / f"{name}.csv") for name in ("attribution", "reliance"))
    top = attribution[attribution["class"] == plant.thing].nlargest(5, "attribution")
    named = top[top["label"] == f"{plant.factor} background"]["latent"]
    assert named.isin(reliance[reliance["class"] == plant.thing]["latent"]).any()
