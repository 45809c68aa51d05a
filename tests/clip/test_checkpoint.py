"""Weights in the files that people have."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lightning_sae.clip import load_clip
from lightning_sae.clip.loading.checkpoint import fill, fill_from_big_vision, read_state

from .conftest import CONFIG, config, make_clip
from .families import FAMILIES


@pytest.fixture
def state(clip):
    return dict(clip.model.state_dict())


@pytest.fixture
def load(tmp_path, clip, pixels):
    """Loads a checkpoint of that content, which must be the tiny model, and gives the model."""
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))

    def loaded(content):
        torch.save(content, tmp_path / "weights.pt")
        found = load_clip(tmp_path / "tiny.json", tmp_path / "weights.pt")
        assert torch.equal(found.encode_image(pixels), clip.encode_image(pixels))

    return loaded


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "module.model.clip."]
)
def test_prefixes_of_trainers(load, state, prefix):
    load({prefix + key: value for key, value in state.items()})


def test_a_parameter_without_the_prefix_of_all_others(load, state):
    load({key if key == "logit_scale" else "module." + key: value for key, value in state.items()})


def test_modules_beside_the_clip_are_left_out_and_named(load, state):
    beside = {"loss.weight": torch.zeros(2), "probe.bias": torch.zeros(2)}
    with pytest.warns(UserWarning, match=r"\.pt holds more .* read without loss\.weight, probe\.bias$"):
        load({"state_dict": {"model." + key: value for key, value in state.items()} | beside})


@pytest.mark.parametrize("content", [b"hello world", b"<!DOCTYPE html>", b"\0" * 100, b""])
@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
def test_bytes_that_are_no_weights_are_named(tmp_path, clip, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read the checkpoint .*{name}: it is truncated"):
        read_state(tmp_path / name) if name == "a.pt" else fill_from_big_vision(clip.model, tmp_path / name)


def test_endings_in_capitals(tmp_path, clip):
    (tmp_path / "TINY.JSON").write_text(json.dumps(CONFIG))
    save_file(clip.model.state_dict(), tmp_path / "WEIGHTS.SAFETENSORS")
    found = load_clip(tmp_path / "TINY.JSON", tmp_path / "WEIGHTS.SAFETENSORS")
    assert found.identity()["weights"] == clip.identity()["weights"]


def test_a_compiled_part(load, state):
    load({key.replace("visual.", "visual._orig_mod."): value for key, value in state.items()})


@pytest.mark.parametrize(
    "path", [("model",), ("state_dict",), ("model_state_dict",), ("state_dict", "model")]
)
def test_what_trainers_wrap_weights_in(load, state, path):
    content = state
    for key in reversed(path):
        content = {"epoch": 3, key: content}
    load(content)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_another_image_size_and_context_length(tmp_path, clip, dtype):
    larger = config(image_size=48)
    larger["text_cfg"]["context_length"] = 16
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    paths = {}
    for kept in (torch.float32, dtype):
        paths[kept] = tmp_path / f"{kept}.safetensors"
        save_file({key: value.to(kept) for key, value in clip.model.state_dict().items()}, paths[kept])
    exact, half = (load_clip(tmp_path / "larger.json", path) for path in paths.values())
    pixels = torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(half.encode_image(pixels), exact.encode_image(pixels), atol=5e-2, rtol=0)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert half.visual.positional_embedding.shape == (1 + 36, 64)
    assert len(half.text.positional_embedding) == 16
    grid = clip.visual.positional_embedding[1:].view(4, 4, 64)
    new = exact.visual.positional_embedding[1:].view(6, 6, 64)
    torch.testing.assert_close(new.mean((0, 1)), grid.mean((0, 1)), atol=0.01, rtol=0)


def test_half_precision_at_another_image_size_in_a_tower_of_timm(tmp_path):
    small = FAMILIES["timm vit, class token"]
    trained = make_clip(tmp_path, small)
    state = {key: value.half() for key, value in trained.model.state_dict().items()}
    larger = make_clip(tmp_path, small | {"vision_cfg": small["vision_cfg"] | {"image_size": 192}})
    fill(larger.model, state, tmp_path / "weights.pt", "larger")
    assert larger.visual.trunk.pos_embed.dtype == torch.float32
    first = (trained.visual.trunk.pos_embed, larger.visual.trunk.pos_embed)
    torch.testing.assert_close(first[1][:, 0], first[0][:, 0], atol=1e-3, rtol=0)  # the class token's


def test_a_file_of_another_model_names_its_keys_at_another_size(tmp_path, clip):
    state = dict(clip.model.state_dict())
    state["visual.positional_embedding"] = torch.zeros(1 + 7, 64, dtype=torch.float16)  # no square
    with pytest.raises(ValueError, match=r"positional_embedding \[8, 64\] instead of \[17, 64\]"):
        fill(clip.model, state, tmp_path / "odd.pt", "tiny")
    state["positional_embedding"] = torch.zeros(9, 16)
    with pytest.raises(ValueError, match=r"\(positional_embedding \[9, 16\] instead of \[12, 32\]"):
        fill(clip.model, state, tmp_path / "odd.pt", "tiny")


def test_an_error_that_has_nothing_to_do_with_the_file_is_not_hidden(monkeypatch, tmp_path, clip):
    def full(state):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(clip.model, "load_state_dict", full, raising=False)
    with pytest.raises(RuntimeError, match=r"^CUDA error"):
        fill(clip.model, dict(clip.model.state_dict()), tmp_path / "weights.pt", "tiny")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("logit_scale", float("nan"), r"logit_scale, exp\(logit_scale\)"),
        ("logit_scale", float("-inf"), "logit_scale"),
        ("logit_scale", 1e4, r"exp\(logit_scale\)"),
        ("text_projection", float("inf"), "text_projection"),
    ],
)
def test_weights_that_are_not_finite_are_refused(tmp_path, state, load, key, value, named):
    with pytest.raises(ValueError, match=rf"weights\.pt has NaN or infinite weights: {named}\. "):
        load(state | {key: torch.full_like(state[key], value)})


def test_an_archive_of_torch_script_is_refused_with_the_two_ways_out(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(
        ValueError, match=r"TorchScript archive.*clip\.pretrained=openai, or save its weights"
    ):
        read_state(path)


def test_the_name_of_a_config_chooses_no_tokenizer(tmp_path, clip):
    (tmp_path / "my-siglip.json").write_text(json.dumps(CONFIG))
    torch.save(clip.model.state_dict(), tmp_path / "weights.pt")
    named = load_clip(tmp_path / "my-siglip.json", tmp_path / "weights.pt")
    assert torch.equal(named.tokenizer(["a red dog"]), clip.tokenizer(["a red dog"]))
    assert named.name.startswith("my-siglip-")


def test_a_config_whose_vocabulary_is_not_clips_has_to_name_its_tokenizer(tmp_path):
    other = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": 32000}}
    with pytest.raises(ValueError, match=r"knows 32000 tokens.*text_cfg\.hf_tokenizer_name"):
        make_clip(tmp_path, other)


def test_a_home_folder_is_found(tmp_path, monkeypatch, clip):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    torch.save(clip.model.state_dict(), tmp_path / "weights.pt")
    assert load_clip("~/tiny.json", "~/weights.pt").folder == tmp_path.name
