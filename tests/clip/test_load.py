import json
import pickle
import warnings

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lightning_sae.clip import load_clip
from lightning_sae.clip.loading import sources

from .conftest import CONFIG, config, make_clip


@pytest.fixture
def files(tmp_path, clip):
    """A config, and the weights of the whole run as .pt and as fp16 .safetensors."""
    state = clip.model.state_dict()
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    torch.save(state, tmp_path / "weights.pt")
    save_file({key: value.half() for key, value in state.items()}, tmp_path / "weights.safetensors")
    return tmp_path


def test_frozen_whatever_the_trainer_asks(clip):
    clip.train()
    assert not any(module.training for module in clip.modules())
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_what_it_says_about_itself(clip):
    assert clip.embed_dim == 32
    assert clip.image_size == (32, 32)
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert clip.preprocess(Image.new("RGB", (50, 40))).shape == (3, 32, 32)


def test_embeddings_are_unit_and_text_may_enter_autograd(clip, pixels):
    with torch.inference_mode():
        texts = clip.encode_text(["a", "red dog", "the cat"], batch_size=2)
    assert not texts.is_inference()
    torch.testing.assert_close(texts, clip.encode_text(["a", "red dog", "the cat"]))
    images = clip.encode_image(pixels)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(images, clip.model.encode_image(pixels, normalize=True))
    with pytest.raises(ValueError, match="at least one"):
        clip.encode_text([])
    with pytest.raises(ValueError, match="sequence"):
        clip.encode_text("dog")


def test_nan_embeddings_of_texts_are_refused(clip):
    def spoil(module, args, output):
        output[1:] = torch.nan
        return output

    hook = clip.text_features.register_forward_hook(spoil)
    try:
        with pytest.raises(
            ValueError, match=r"2 of 3 texts have NaN embeddings by the text tower of tiny.*first is 'b'"
        ):
            clip.encode_text(["a", "b", "c"])
    finally:
        hook.remove()


def test_pt_and_half_safetensors_load_as_float32(files, clip, pixels):
    exact = load_clip(files / "tiny.json", files / "weights.pt")
    assert torch.equal(exact.encode_image(pixels), clip.encode_image(pixels))
    assert exact.identity()["weights"] == clip.identity()["weights"]
    half = load_clip(str(files / "tiny.json"), str(files / "weights.safetensors"))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert half.pretrained == "weights.safetensors"
    torch.testing.assert_close(half.encode_image(pixels), clip.encode_image(pixels), atol=1e-2, rtol=0)
    assert half.identity()["weights"] != clip.identity()["weights"]


def test_bf16_weights_give_float32_embeddings_nearby(files, clip, pixels):
    low = load_clip(files / "tiny.json", files / "weights.pt", precision="bf16")
    assert low.dtype == torch.bfloat16
    assert low.encode_image(pixels).dtype == torch.float32
    assert (low.encode_image(pixels) * clip.encode_image(pixels)).sum(1).min() > 0.99
    assert low.encode_text(["red"]).dtype == torch.float32


def test_identity_is_stable_and_names_no_folder(files, clip):
    loaded = load_clip(files / "tiny.json", files / "weights.pt")
    identity = loaded.identity()
    assert set(identity) == {"model", "pretrained", "weights", "preprocess"}
    assert str(files) not in json.dumps(identity)
    assert identity == load_clip(files / "tiny.json", files / "weights.pt").identity()
    assert json.loads(identity["preprocess"])["size"] == [32, 32]


def test_two_configs_of_one_stem_are_not_mixed_up(tmp_path):
    first, second, third = (
        make_clip(folder, config(layers=layers))
        for folder, layers in ((tmp_path, 1), (tmp_path, 2), (tmp_path, 1))
    )
    assert [len(c.visual.transformer.resblocks) for c in (first, second, third)] == [1, 2, 1]
    assert first.name == third.name != second.name


def test_hub_layout_brings_its_preprocessing(tmp_path):
    hub = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    clip = make_clip(tmp_path, hub)
    assert clip.preprocess(Image.new("RGB", (32, 32))).abs().max() == 0


def test_random_weights_warn(tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    with pytest.warns(UserWarning, match=r"random weights; .* clip\.pretrained"):
        load_clip(tmp_path / "tiny.json")


def test_unknown_name_and_tag_suggest():
    with pytest.raises(ValueError, match=r"'ViT-B-23'.*ViT-B-32"):
        load_clip("ViT-B-23", "openai")
    with pytest.raises(ValueError, match=r"'laion3b'.*laion2b_s34b_b79k"):
        load_clip("ViT-B-32", "laion3b")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file w\.pt.*laion2b_s34b_b79k"):
        load_clip("ViT-B-32", "w.pt")
    with pytest.raises(ValueError, match="set it to null"):
        load_clip("hf-hub:org/name", "openai")
    with pytest.raises(ValueError, match="fp32 or bf16"):
        load_clip("ViT-B-32", precision="fp16")


@pytest.mark.parametrize(
    ("model", "tag", "local"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k", r"clip\.pretrained=FILE"),
        ("hf-hub:org/name", None, r"clip\.model=CONFIG\.json clip\.pretrained=FILE"),
    ],
)
def test_no_network(monkeypatch, tmp_path, model, tag, local):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=f"(weights|config) of {model}.*{local}"):
        load_clip(model, tag, cache_dir=str(tmp_path))


def test_a_tokenizer_runs_no_code(tmp_path, monkeypatch):
    asks = config()
    asks["text_cfg"] |= {"hf_tokenizer_name": str(tmp_path), "tokenizer_kwargs": {"trust_remote_code": True}}
    (tmp_path / "my.json").write_text(json.dumps(asks))
    with pytest.raises(ValueError, match="wants its tokenizer to run code"):
        load_clip(tmp_path / "my.json")
    hub = tmp_path / "open_clip_config.json"
    hub.write_text(json.dumps({"model_cfg": asks, "preprocess_cfg": {}}))
    monkeypatch.setattr(sources, "download_pretrained_from_hf", lambda *given, **named: str(hub))
    with pytest.raises(ValueError, match="wants its tokenizer to run code"):
        load_clip("hf-hub:org/name")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"my\.json, line 1: no JSON: "),
        ("[1]", r"my\.json, line 1: no JSON object, but a list"),
        ('{"embed_dim": 8, "text_cfg": {}}', "lacks vision_cfg"),
        (json.dumps(config(widht=64)), "widht"),
        (json.dumps(config(width=100)), "describes no model"),
        (json.dumps(config(layers=10**9)), r"a tower of 1,000,000,000 layers, more than 1,000"),
        (json.dumps(CONFIG | {"text_cfg": "x"}), r"my\.json lacks text_cfg as open_clip's configs have it"),
        (json.dumps({"model_cfg": 5}), "lacks embed_dim, vision_cfg, text_cfg"),
        (json.dumps(CONFIG | {"embed_dim": -1}), "describes no model that can be built here: .*negative"),
        (json.dumps(CONFIG | {"embed_dim": 10**15}), "describes no model .*can't allocate memory"),
        (json.dumps(config(image_size=0)), "describes no model that can be built here: "),
        (json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0, 0]}}), "describes no model"),
        (json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"interpolation": "foo"}}), "describes no model"),
    ],
)
def test_broken_config(tmp_path, text, message):
    (tmp_path / "my.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_clip(tmp_path / "my.json")


def test_missing_files(files):
    with pytest.raises(FileNotFoundError, match=r"no model config.*none\.json"):
        load_clip(files / "none.json")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file.*none\.pt"):
        load_clip(files / "tiny.json", files / "none.pt")
    with pytest.raises(FileNotFoundError, match="openai"):
        load_clip(files / "tiny.json", "openai")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0, 20, 100_000])
def test_truncated_checkpoint(files, name, kept):
    path = files / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"cannot read the checkpoint .*{name}: it is truncated"):
        load_clip(files / "tiny.json", path)


class Attack:
    def __reduce__(self):
        return (open, ("attacked", "w"))


def test_code_in_a_checkpoint_is_not_run(files, monkeypatch):
    monkeypatch.chdir(files)
    torch.save({"state_dict": Attack()}, files / "zip.pt")
    (files / "plain.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(ValueError, match="holds code"):
            load_clip(files / "tiny.json", files / name)
    assert not (files / "attacked").exists()


def test_checkpoint_that_does_not_fit_names_the_keys(files, clip):
    state = clip.model.state_dict()
    state["visual.extra"] = state.pop("visual.proj")
    state["ln_final.weight"] = torch.ones(7)
    torch.save(state, files / "other.pt")
    with pytest.raises(ValueError, match="does not fit") as error:
        load_clip(files / "tiny.json", files / "other.pt")
    assert "1 missing (visual.proj)" in str(error.value)
    assert "1 unexpected (visual.extra)" in str(error.value)
    assert "1 of another shape (ln_final.weight [7] instead of [32])" in str(error.value)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, torch.zeros(2)])
def test_checkpoint_that_is_no_state_dict(files, content):
    torch.save(content, files / "odd.pt")
    with pytest.raises(ValueError, match="does not fit"):
        load_clip(files / "tiny.json", files / "odd.pt")


def test_sizes_are_compared_before_memory_is_taken(files):
    (files / "huge.json").write_text(json.dumps(config(width=1 << 20)))  # a terabyte and more
    with pytest.raises(ValueError, match=r"weights\.pt does not fit .*huge.*: it has [\d,]+ numbers"):
        load_clip(files / "huge.json", files / "weights.pt")


def test_checkpoint_of_another_width(files, tmp_path_factory):
    wide = make_clip(tmp_path_factory.mktemp("wide"), config(width=96))
    save_file(wide.model.state_dict(), files / "wide.safetensors")
    with pytest.raises(ValueError, match=r"of another shape .*instead of"):
        load_clip(files / "tiny.json", files / "wide.safetensors")


def test_training_checkpoint_of_several_processes(files, clip, pixels, caplog):
    state = {f"module.{key}": value for key, value in clip.model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, files / "epoch_3.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_clip(files / "tiny.json", files / "epoch_3.pt")
    assert not caplog.records
    assert torch.equal(loaded.encode_image(pixels), clip.encode_image(pixels))


def test_a_text_tower_of_hugging_face_asks_for_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("open_clip.hf_model.transformers", None)
    hf = CONFIG | {"text_cfg": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}}
    with pytest.raises(ModuleNotFoundError, match="pip install transformers"):
        make_clip(tmp_path, hf)


def test_two_attention_pools_of_another_width_than_the_embedding(tmp_path):
    with pytest.raises(
        ValueError, match=r"the width is embed_dim, got 64 and 32; take attentional_pool=true"
    ):
        make_clip(tmp_path, config(attentional_pool="cascade", attn_pooler_heads=2))
