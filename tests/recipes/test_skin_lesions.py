"""The files of the recipe fit each other, and the layout that its pictures are downloaded in."""

import importlib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lightning_sae.concepts.vocabulary import vocabulary_from_file
from lightning_sae.data import ImageTable
from lightning_sae.data.prompts import class_prompts
from lightning_sae.data.sources.columns import Names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", overrides=["experiment=skin_lesions", "data.path=HAM.csv", "run_dir=RUN"])
    return OmegaConf.to_container(config, resolve=False)["data"]


def test_prompts_and_words_know_every_class(data):
    names = [*data["classes"].values()]
    prompts = class_prompts(names, ["{}"], ROOT / data["prompts_file"])
    assert [len(group) for group in prompts] == [3] * 7
    labels = vocabulary_from_file(ROOT / "docs" / "recipes" / "skin_lesions_vocabulary.txt").labels
    assert {*names, "ruler", "red background", "dark corners"} <= {*labels}


def test_it_reads_the_layout_of_the_download(data, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pictures = importlib.import_module("skin_pictures")
    assert data["classes"] == pictures.NAMES
    path = pictures.write(tmp_path, 60, 20, 20)
    names = Names(data["image"], data["label"], data["groups"], data["classes"])
    table = ImageTable(path, names=names, split=None, files=data["files"], together=data["together"])
    parts = [table.split(split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 100
    assert parts[0][0].size == pictures.SIZE
