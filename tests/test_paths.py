"""`~` is the home folder wherever a user gives a path."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from callbacks.run_record import RunRecord
from lightning_sae.classifiers.linear import LinearClassifier
from lightning_sae.classifiers.saved_probe import load_probe, save_probe
from lightning_sae.compare.runs import read_runs
from lightning_sae.concepts.vocabulary import vocabulary_from_file
from lightning_sae.correct import load_classifier
from lightning_sae.data import ActivationStore
from lightning_sae.runs.classifier import check_choice
from lightning_sae.runs.folder import open_run
from lightning_sae.sae import SparseAutoencoder, TopK, load_sae, save_sae
from lightning_sae.sae.exchange import export_sae, import_sae
from lightning_sae.training.home_folder import HomeFolder

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_is_saved_at_home_is_found_there(home):
    save_sae(TopK(4, 8, 2), "~/sae", {"clip": {}})
    assert (home / "sae").is_dir()
    assert load_sae("~/sae").d_sae == 8
    assert SparseAutoencoder.from_pretrained("~/sae").d_sae == 8
    assert import_sae("~/sae").d_sae == 8
    export_sae(TopK(4, 8, 2), "~/exported", "lightning_sae")
    assert (home / "exported").is_dir()
    save_probe(
        LinearClassifier(torch.eye(2), torch.zeros(2)), ["cat", "dog"], {"clip": {"weights": "ab"}}, "~/probe"
    )
    assert load_probe("~/probe").class_names == ["cat", "dog"]
    check_choice("~/probe")
    (home / "words.txt").write_text("red\ngreen\n")
    assert len(vocabulary_from_file("~/words.txt").labels) == 2


@pytest.mark.parametrize(
    "read",
    [open_run, load_classifier, ActivationStore, lambda path: read_runs([path])],
    ids=["run", "classifier", "store", "comparison"],
)
def test_what_is_missing_at_home_is_named_in_full(home, read):
    with pytest.raises((FileNotFoundError, ValueError), match=str(home / "none")):
        read("~/none")


def test_a_checkpoint_at_home(home):
    given = {"ckpt_path": "~/last.ckpt", "task": "validate", "resume": True}
    assert RunRecord(str(home), None).begin(given) == str(home / "last.ckpt")


def test_a_run_folder_at_home(home):
    config = composed("hydra.run.dir='~/runs/1'")
    HomeFolder().on_run_start(config)
    assert config.hydra.run.dir == str(home / "runs" / "1")
    config = composed("hydra.sweep.dir='~/it\\'s'")
    HomeFolder().on_multirun_start(config)
    assert config.hydra.sweep.dir == str(home / "it's")
    again = composed(*config.hydra.overrides.hydra)  # as Hydra composes the jobs
    assert again.hydra.sweep.dir == str(home / "it's")


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)
