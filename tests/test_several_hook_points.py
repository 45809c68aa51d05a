"""`hook_points=[A,B]` from end to end: what two runs would leave, in one run folder."""

import json

import pandas as pd
import pytest
import torch

from lightning_sae.runs.folder import open_run
from lightning_sae.sae import load_sae

FIRST, LAST = "visual.transformer.resblocks.1", "visual.transformer.resblocks.3"
BOTH = f"hook_points=[{FIRST},{LAST}]"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def weights(folder):
    return (folder / "sae.safetensors").read_bytes()


@pytest.fixture(scope="module")
def runs(train_small):
    """By name: of both, of each alone, and of a list with one hook point."""
    settings = {"both": BOTH, "first": f"hook_point={FIRST}", "last": f"hook_point={LAST}"}
    settings["list"] = f"hook_points=[{LAST}]"
    return {name: train_small(name, "sae.dead_after=100", words) for name, words in settings.items()}


def test_one_run_leaves_what_two_would(runs):
    both, first, last = (runs[name] for name in ("both", "first", "last"))
    earlier = both / "layers" / "resblocks.1" / "sae"
    for own, alone in ((both / "sae", last / "sae"), (earlier, first / "sae")):
        for name in ("sae.safetensors", "cfg.json", "README.md"):
            assert (own / name).read_bytes() == (alone / name).read_bytes(), (own, name)
    assert (both / "latents.csv").read_bytes() == (last / "latents.csv").read_bytes()
    table = pd.read_csv(both / "metrics.csv")
    for suffix, alone in (("", last), ("/resblocks.1", first)):
        for key, column in pd.read_csv(alone / "metrics.csv").items():
            if str(key).startswith(("train/", "val/")):
                pd.testing.assert_series_equal(table[f"{key}{suffix}"], column, check_names=False)
    record = json.loads((both / "run.json").read_text())
    assert record["metrics"]["val/fvu/resblocks.1"] == load_sae(earlier).metrics["val/fvu"]


def test_a_list_of_one_is_that_one(runs):
    for name in ("sae/sae.safetensors", "sae/cfg.json", "latents.csv", "metrics.csv"):
        assert (runs["list"] / name).read_bytes() == (runs["last"] / name).read_bytes(), name
    assert not (runs["list"] / "layers").exists()
    checkpoints = [next((runs[name] / "checkpoints").glob("*.ckpt")) for name in ("list", "last")]
    one, other = (torch.load(path, weights_only=True) for path in checkpoints)
    assert one["ActivationDataModule"] == other["ActivationDataModule"]


def test_the_layers_of_a_run_folder(runs):
    run = open_run(runs["both"])
    assert [*run.layers] == ["resblocks.1", "resblocks.3"]
    assert [str(layer.hook_point) for layer in run.layers.values()] == [f"{FIRST}:cls", f"{LAST}:cls"]
    assert run.layers["resblocks.3"].sae is run.sae
    earlier = run.layers["resblocks.1"].sae
    assert earlier.provenance["hook_point"] == FIRST
    assert torch.equal(earlier.W_dec, load_sae(runs["first"] / "sae").W_dec)
    assert [*open_run(runs["last"]).layers] == ["resblocks.3"]
    known = open_run(runs["first"]).latents[["density", "top_images"]]
    pd.testing.assert_frame_equal(run.layers["resblocks.1"].latents.sort_index(), known.sort_index())


def test_a_checkpoint_of_several_is_validated(runs, train_small, capsys):
    (checkpoint,) = (runs["both"] / "checkpoints").glob("*.ckpt")
    again = train_small("again", BOTH, "task=validate", f"ckpt_path={checkpoint}", "sae.dead_after=100")
    assert "\nresblocks.1     FVU " in capsys.readouterr().out
    one, other = (pd.read_csv(run / "metrics.csv") for run in (again, runs["both"]))
    keys = [key for key in one if key.startswith("val/")]
    assert "val/fvu/resblocks.1" in keys
    expected = other[other["val/fvu"].notna()].iloc[-1][keys]
    pd.testing.assert_series_equal(one.iloc[-1][keys], expected, check_names=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"hook_points=[{LAST},{FIRST}]", "from the first to the last: got "),
        (f"hook_points=[{FIRST},{FIRST}]", "hook_points must be different ones"),
        (f"hook_points=[transformer.resblocks.0,{LAST}]", "which never reach transformer.resblocks.0"),
        (f"hook_points=[visual.transformer.resblocks.9,{LAST}]", "has no module"),
        (f"hook_points={LAST}", "hook_points must be a list"),
    ],
)
def test_hook_points_that_cannot_be_trained_together(train_small, tmp_path, words, message):
    store, folder = tmp_path / "store", tmp_path / "run"
    with pytest.raises(AssertionError, match=message):
        train_small("refused", words, f"data.store_dir={store}", f"hydra.run.dir={folder}")
    assert not store.exists()
    assert not (folder / "run.json").exists()
