"""A training from Python is that of train.py, and leaves nothing of itself in the process."""

import logging
import os
import sys
from functools import partial

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback
from omegaconf import OmegaConf

import lightning_sae as ls
from lightning_sae.composing.settings import read_settings
from lightning_sae.home import home
from lightning_sae.sae import SparseAutoencoder, TopK

SETTINGS = {
    "data": {"n_train": 128, "n_val": 96, "n_test": 1, "n_probe": 8, "batch_size": 64},
    "sae": {"d_sae": 64, "k": 4},
    "trainer": {"max_steps": 4, "val_check_interval": 4, "num_sanity_val_steps": 0, "accelerator": "cpu"},
    "callbacks": ["progress", "alignment", "attribution", "latent_table", "save_sae"],
    "callbacks.progress.refresh_rate": 0,
    "callbacks.alignment.draws": 20,
    "module.decay_fraction": 0,
    "+module.top_n": 5,
    "logger": "csv",
}
WORDS = [
    *("data.n_train=128", "data.n_val=96", "data.n_test=1", "data.n_probe=8", "data.batch_size=64"),
    *("sae.d_sae=64", "sae.k=4", "trainer.max_steps=4", "trainer.val_check_interval=4"),
    *("trainer.num_sanity_val_steps=0", "trainer.accelerator=cpu", "callbacks.progress.refresh_rate=0"),
    *("callbacks=[progress,alignment,attribution,latent_table,save_sae]", "callbacks.alignment.draws=20"),
    *("module.decay_fraction=0", "+module.top_n=5", "logger=csv"),
]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Counter(Callback):
    """Counts training batches, and logs nothing."""

    logs = ()

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self, *args):
        self.batches += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory, store):
    """A run, started from Python in the middle of a program of Hydra's."""
    folder = tmp_path_factory.mktemp("runs") / "it's a run"
    ls.train(folder, SETTINGS | {"data.store_dir": store})
    return folder


def settled():
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric", "")]
    return os.getcwd(), levels, GlobalHydra.instance().hydra, HydraConfig.instance().cfg, [*sys.path]


def test_it_is_the_run_of_the_command(folder, store, train_py, tmp_path):
    assert train_py(*WORDS, f"data.store_dir={store}", f"hydra.run.dir={tmp_path / 'run'}") == 0
    mine, theirs = ls.open_run(folder), ls.open_run(tmp_path / "run")
    for name, tensor in theirs.sae.state_dict().items():
        torch.testing.assert_close(mine.sae.state_dict()[name], tensor, rtol=0, atol=0)
    pd.testing.assert_frame_equal(mine.latents, theirs.latents)
    assert mine.metrics == theirs.metrics
    assert mine.choices == theirs.choices
    left_out = ("run_dir", "record", "trainer")
    for key in theirs.config.keys() - {*left_out}:
        assert OmegaConf.to_container(mine.config)[key] == OmegaConf.to_container(theirs.config)[key]


def test_the_process_is_as_it_was(folder, store, tmp_path):
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):  # in a program of Hydra's
        before = settled()
        ls.train(tmp_path, SETTINGS | {"data.store_dir": store, "callbacks": ["progress", "alignment"]})
        assert settled() == before
        assert compose("train", ["run_dir=RUN"]).sae.k == 16
    before = settled()
    with pytest.raises(ValueError, match=r"k must be in 1\.\.d_sae=64, got 0"):
        ls.train(tmp_path / "other", SETTINGS | {"data.store_dir": store, "sae.k": 0})
    assert settled() == before
    assert not (tmp_path / "other").exists()


def test_a_finished_run_is_only_opened(folder, store, capsys):
    again = ls.train(folder, SETTINGS | {"data.store_dir": store})
    assert "it is finished" in capsys.readouterr().out
    assert again.sae.k == 4
    with pytest.raises(ValueError, match=r"finished run with other settings: sae\.k 4 -> 5"):
        ls.train(folder, SETTINGS | {"data.store_dir": store, "sae": {"d_sae": 64, "k": 5}})


def test_objects_stand_in_their_places(folder, store, tmp_path):
    class Half(TopK):
        def __init__(self, d_in, d_sae, **options):
            super().__init__(d_in, d_sae, k=d_sae // 16, **options)

    data, counter = ls.open_run(folder).data, Counter()
    others = {key: value for key, value in SETTINGS.items() if key not in ("data", "sae")}
    settings = others | {"callbacks.counter": counter}
    run = ls.train(tmp_path, settings, data=data, sae=partial(Half, d_sae=64))
    assert counter.batches == 4
    assert (type(run.sae), run.sae.k, run.data) == (Half, 4, data)
    assert (run.config.hook_point, run.config.clip) == (data.hook.module, data.clip.name)
    assert run.latent(0).name
    with pytest.raises(ValueError, match=r"^data of this run was an object.*open_run\(folder, data=\.\.\.\)"):
        ls.open_run(tmp_path)
    assert ls.open_run(tmp_path, data=data).sae.k == 4
    SparseAutoencoder.variants.pop("Half")


def test_a_partial_that_can_be_imported_is_written_down_whole(folder, store, tmp_path):
    others = {key: value for key, value in SETTINGS.items() if key != "sae"}
    run = ls.train(tmp_path, others | {"data.store_dir": store, "sae": partial(TopK, d_sae=64, k=3)})
    assert run.config.sae == {"_target_": f"{TopK.__module__}.TopK", "_partial_": True, "d_sae": 64, "k": 3}
    assert ls.open_run(tmp_path).sae.k == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trainer": object()}, "trainer takes a number, a text, or a list of them, got object"),
        ({"callbacks": [Counter()]}, "callbacks takes a number, a text, or a list of them, got list"),
        ({"sae": partial(TopK), "sae.k": 3}, r"sae\.k is a part of sae, an object here"),
        ({"data": object(), "hook_point": "visual"}, "hook_point is a part of data, an object here"),
        ({"data": object()}, "data must be an ActivationDataModule, got object"),
    ],
)
def test_settings_that_are_none(wrong, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        ls.train(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def test_a_misspelt_setting_is_named(tmp_path):
    with pytest.raises(Exception, match=r"sae\.kk"):
        ls.train(tmp_path, {"sae.kk": 3})
    with pytest.raises(Exception, match="topk"):  # those that there are
        ls.train(tmp_path, sae="topp")
    with pytest.raises(FileNotFoundError, match="config_dir must be a folder"):
        ls.train(tmp_path, config_dir=tmp_path / "none")


def test_words_are_read_by_hydra_as_they_were_meant():
    values = ["it's", 'a "b"', "back\\slash'", "8", "null", "${x}", 8, 0.1, 1e-05, True, None, ["a,b", 2], ""]
    words = read_settings({f"+mine.v{i}": value for i, value in enumerate(values)}).words
    with initialize_config_dir(str(home() / "conf"), version_base="1.3"):
        mine = compose("train", [*words, "run_dir=RUN"]).mine
    found = [OmegaConf.to_container(mine)[f"v{i}"] for i in range(len(values))]
    assert found == values


def test_stopping_is_an_interrupt_and_the_same_call_goes_on(during, folder, store, tmp_path, capsys):
    settings = SETTINGS | {"data.store_dir": store, "trainer.val_check_interval": 1}
    settings["callbacks"] = [*SETTINGS["callbacks"], "checkpoint"]

    def stop():
        raise KeyboardInterrupt

    during(3, stop)
    with pytest.raises(KeyboardInterrupt, match="The same call goes on"):
        ls.train(tmp_path, settings)
    assert "Stopped. The same call goes on from the last checkpoint." in capsys.readouterr().err
    assert ls.train(tmp_path, settings).metrics["val/fvu"] > 0
