"""Small random CLIPs, made through the same door as real ones: a config file and a checkpoint file."""

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch

from lightning_sae.clip import Clip, capture_context, load_clip, make_tail, splice

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 32, "layers": 3},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "head_width": 32}


def config(**vision):
    """The small ViT's config with other vision settings."""
    changed = copy.deepcopy(CONFIG)
    changed["vision_cfg"] |= vision
    return changed


def make_clip(folder: Path, model_config: dict, seed: int = 0) -> Clip:
    path = folder / "tiny.json"
    path.write_text(json.dumps(model_config))
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_clip(path)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("vit"), CONFIG)


@pytest.fixture(scope="session")
def averaged_clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("avg"), config(pool_type="avg", final_ln_after_pool=True))


@pytest.fixture(scope="session")
def resnet_clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("resnet"), CONFIG | {"vision_cfg": RESNET})


def check_tail(clip, point, needs, inputs):
    """The tail of the captured activation is the model's embedding; it changes nothing that it is given."""
    tail = make_tail(clip, point)
    assert tail.needs == needs
    x, context = capture_context(clip, point, tail, inputs)
    assert (context is None) == (needs == "nothing")
    torch.testing.assert_close(tail(x, context), clip.encode(inputs))
    other = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    kept = other.clone()
    with splice(clip, point, lambda _: other, error_term=False):
        torch.testing.assert_close(tail(other, context), clip.encode(inputs))
    assert torch.equal(other, kept)


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
