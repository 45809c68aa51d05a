"""CLIPs from files that carry the same names are told apart."""

import json

import pytest
import torch

from lightning_sae.clip import TextClip, clip_titles, load_clip
from lightning_sae.clip.titles import identity_titles

from .conftest import CONFIG


@pytest.fixture
def load(tmp_path, clip):
    """Name of a file of weights, a number that they differ by -> the CLIP that is loaded from it."""

    def load(name, number):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        state = clip.model.state_dict()
        torch.save(state | {"logit_scale": state["logit_scale"] + number}, path)
        (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
        return load_clip(tmp_path / "tiny.json", path)

    return load


def endings(*clips):
    """The titles behind the model's name, which is that of all."""
    titles = clip_titles(*clips)
    assert all(title.startswith(f"{clip.name} ") for title, clip in zip(titles, clips, strict=True))
    return [title.removeprefix(f"{clip.name} ") for title, clip in zip(titles, clips, strict=True)]


def test_file_names_say_it_where_they_differ(load):
    assert endings(load("a/one.pt", 0), load("b/two.pt", 1)) == ["one.pt", "two.pt"]
    assert endings(load("a/one.pt", 0)) == ["one.pt"]


def test_folders_say_it_where_file_names_are_the_same(load):
    one, two = load("biased/best.pt", 0), load("fair/best.pt", 1)
    assert endings(one, two) == endings(TextClip(one), TextClip(two)) == ["biased/best.pt", "fair/best.pt"]


def test_weights_say_it_where_the_paths_are_the_same(load):
    one, two = load("best.pt", 0), load("best.pt", 1)
    keys = [clip.identity()["weights"][:8] for clip in (one, two)]
    folder = one.folder
    assert endings(one, two) == [f"{folder}/best.pt {key}" for key in keys]


def test_the_same_weights_need_no_telling_apart(load):
    one = load("a/best.pt", 0)
    assert endings(one, one) == endings(one, load("b/best.pt", 0)) == ["best.pt", "best.pt"]


def test_what_has_no_file_is_called_by_its_model():
    hub = {"model": "hf-hub:a/b", "pretrained": "none", "weights": "x"}
    tag = {"model": "ViT-B-32", "pretrained": "openai", "weights": "y", "folder": ""}
    assert identity_titles([hub, tag]) == ["hf-hub:a/b", "ViT-B-32 openai"]
    assert identity_titles([]) == []


def test_no_folder_is_in_what_is_saved(load):
    assert "biased" not in json.dumps(load("biased/best.pt", 0).identity())
