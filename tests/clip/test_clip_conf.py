import inspect
import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from lightning_sae.clip import load_clip

from .conftest import CONFIG

CONF = Path(__file__).parents[2] / "conf" / "clip"


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_key_is_a_parameter(name):
    assert set(composed(name)) - {"_target_"} <= set(inspect.signature(load_clip).parameters)


def test_local_files_from_the_command_line(tmp_path, clip, pixels):
    (tmp_path / "my.json").write_text(json.dumps(CONFIG))
    torch.save(clip.model.state_dict(), tmp_path / "w.pt")
    cfg = composed("open_clip", f"model={tmp_path}/my.json", f"pretrained={tmp_path}/w.pt")
    assert torch.equal(instantiate(cfg).encode_image(pixels), clip.encode_image(pixels))


@pytest.mark.parametrize("edition", ["biased", "balanced"])
def test_world_config_names_the_shipped_files(edition):
    cfg = composed(f"world_{edition}")
    assert instantiate(cfg.model).is_file()
    assert instantiate(cfg.pretrained).name == f"{edition}.safetensors"
