"""The saved autoencoder: what is read is what was written, and damage or another CLIP is refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightning_sae.sae import TopK, load_sae, save_sae

CLIP = {"model": "ViT-B-32", "pretrained": "laion2b", "weights": "a1", "preprocess": "resize 224"}
PROVENANCE = {"clip": CLIP, "hook_point": "visual", "tokens": "pooled"}


@pytest.fixture
def sae() -> TopK:
    torch.manual_seed(0)
    sae = TopK(d_in=6, d_sae=20, k=3, dead_after=50)
    sae.set_normalisation(torch.full((6,), 2.0), 0.5)
    sae.tokens_since_fired[4] = 9
    return sae


@pytest.fixture
def folder(sae: TopK, tmp_path: Path) -> Path:
    save_sae(sae, tmp_path / "sae", PROVENANCE)
    return tmp_path / "sae"


def test_round_trip_is_exact(sae: TopK, folder: Path) -> None:
    loaded = load_sae(folder, clip=CLIP)
    assert isinstance(loaded, TopK)
    assert loaded.config() == sae.config()
    assert loaded.provenance == PROVENANCE
    for name, tensor in sae.fold().state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    x = torch.randn(30, 6) + 2
    torch.testing.assert_close(loaded(x)[0], sae(x)[0])


def test_folder_is_readable_without_this_library(folder: Path) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    tensors = load_file(folder / "sae.safetensors")
    assert config["variant"] == "TopK"
    assert config["shapes"] == {name: list(t.shape) for name, t in tensors.items()}
    assert config["shapes"]["W_enc"] == [config["d_in"], config["d_sae"]] == [6, 20]
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / "sae.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_saving_again_replaces_and_leaves_nothing_behind(sae: TopK, folder: Path) -> None:
    save_sae(sae, folder, {"clip": {"weights": "b2"}})
    assert load_sae(folder).provenance == {"clip": {"weights": "b2"}}
    assert [path.name for path in folder.parent.iterdir()] == ["sae"]


def test_saving_refuses_a_folder_with_other_files(sae: TopK, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="other files"):
        save_sae(sae, tmp_path, PROVENANCE)


def test_failed_saving_keeps_the_old_folder(sae: TopK, folder: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_sae(sae, folder, {"clip": object()})
    assert load_sae(folder).provenance == PROVENANCE


def test_another_clip_is_refused(folder: Path) -> None:
    other = CLIP | {"pretrained": "openai", "weights": "b2"}
    with pytest.raises(ValueError, match=r"pretrained: 'laion2b' here, 'openai' given.*weights"):
        load_sae(folder, clip=other)
    assert load_sae(folder, clip=other, strict=False).provenance == PROVENANCE
    with pytest.raises(ValueError, match="preprocess"):
        load_sae(folder, clip=CLIP | {"preprocess": "resize 336"})


def test_same_weights_under_another_name_are_accepted(folder: Path) -> None:
    load_sae(folder, clip=CLIP | {"model": "copy.json", "pretrained": "copy.pt"})


@pytest.mark.parametrize("name", ["cfg.json", "sae.safetensors"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        load_sae(folder)


@pytest.mark.parametrize("size", [3, 200, -1])
def test_truncated_tensors(folder: Path, size: int) -> None:
    path = folder / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_sae(folder)


def test_truncated_config(folder: Path) -> None:
    path = folder / "cfg.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match=r"cfg\.json, line 4: no JSON: the file ends too early"):
        load_sae(folder)


def test_wrong_shape(folder: Path) -> None:
    tensors = load_file(folder / "sae.safetensors")
    tensors["b_enc"] = tensors["b_enc"][:-1].clone()
    save_file(tensors, folder / "sae.safetensors")
    with pytest.raises(ValueError, match=r"b_enc \[19\] instead of \[20\]"):
        load_sae(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "os.system"}, "unknown SAE variant 'os.system'; known: .*TopK"),
        ({"k": 21}, "k must be in 1..d_sae=20, got 21"),
        ({"k": None}, "lacks .*'k'"),
        ({"k": "4"}, "describes no TopK"),
        ({"d_sae": 10**12}, r"W_enc \[6, 20\] instead of \[6, 1000000000000\]"),
        ({"d_in": "6"}, "d_in must be a whole number, got '6'"),
        ({"provenance": 1}, "provenance must be an object, got 1"),
        ({"variant": ["x"]}, r"variant must be a text, got \['x'\]"),
    ],
)
def test_wrong_config(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "cfg.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        load_sae(folder)
