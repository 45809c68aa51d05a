import json
import warnings

import open_clip
import pytest
import torch

from lightning_sae.clip import clip_titles, load_clip
from lightning_sae.clip.text_clip import TextClip
from lightning_sae.world import config_path, weights_path

from .conftest import CONFIG


def state(clip):
    return clip.model.state_dict()


def test_a_seed_is_one_model_and_the_weights_are_of_open_clip(tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was asked for, so there is nothing to warn of
        first = load_clip(tmp_path / "tiny.json", random_seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)  # the draws of a run go on
    same, other = (load_clip(tmp_path / "tiny.json", random_seed=seed) for seed in (3, 4))
    torch.manual_seed(3)
    theirs = open_clip.create_model(f"config-{first.name.split('-')[-1]}").state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in state(first).items())
    assert first.identity() == same.identity()
    assert first.identity()["weights"] != other.identity()["weights"]
    assert clip_titles(first, other) == [f"{first.name} random seed {seed}" for seed in (3, 4)]


def test_it_stands_for_a_pretrained_model():
    trained, random = (load_clip(config_path(), weights_path("biased"), random_seed=s) for s in (None, 0))
    told, found = trained.identity(), random.identity()
    assert {key for key in told if told[key] != found[key]} == {"pretrained", "weights"}
    assert (trained.random_seed, random.random_seed, TextClip(random).random_seed) == (None, 0, 0)
    assert random.encode_image(torch.zeros(1, 3, *random.image_size)).isfinite().all()


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_a_seed_is_a_count(seed):
    with pytest.raises(ValueError, match="random_seed must be a whole number"):
        load_clip(config_path(), random_seed=seed)
