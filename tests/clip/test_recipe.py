"""Weights are used as they were trained: with their activation function, and their preprocessing."""

import copy
import json

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image

from lightning_sae.clip import load_clip
from lightning_sae.clip.loading.sources import find_source

from .conftest import CONFIG, make_clip

OPENAI = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "interpolation": "bicubic"}
APPLE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}
MARKS = {"input_resolution": 32, "context_length": 12, "vocab_size": 49408}


@pytest.fixture
def quick(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("quick"), CONFIG | {"quick_gelu": True})


@pytest.fixture
def weights(tmp_path, quick):
    torch.save(quick.model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


@pytest.fixture
def open_clips(monkeypatch, weights):
    """Gives open_clip a tiny model with tags, of which the file of weights is the checkpoint."""

    def known(**tags):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", copy.deepcopy(CONFIG))
        settings = {
            tag: {"file": str(weights), "resize_mode": "shortest", **found} for tag, found in tags.items()
        }
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", settings)

    return known


def has_quick_gelu(clip):
    return any(isinstance(module, QuickGELU) for module in clip.model.modules())


def black(clip):
    """The value of black after the preprocessing, the same in all channels."""
    values = clip.preprocess(Image.new("RGB", (50, 40))).unique()
    assert len(values) == 1
    return values.item()


@pytest.mark.filterwarnings("error")
def test_a_tag_brings_its_activation_function_and_preprocessing(open_clips, quick, pixels):
    open_clips(openai=OPENAI | {"quick_gelu": True}, other=APPLE)
    clip = load_clip("tiny", "openai")
    assert torch.equal(clip.encode_image(pixels), quick.encode_image(pixels))
    assert (clip.name, clip.pretrained, black(clip)) == ("tiny-quickgelu", "openai", -2.0)
    other = load_clip("tiny", "other")
    assert not has_quick_gelu(other)
    assert (other.name, black(other)) == ("tiny", 0.0)
    assert clip.identity()["model"] != other.identity()["model"]


def test_random_weights_stand_for_a_tag_that_is_not_fetched(open_clips, weights):
    open_clips(openai=OPENAI | {"quick_gelu": True}, other=APPLE)
    trained = load_clip("tiny", "openai")
    weights.unlink()
    random = load_clip("tiny", "openai", random_seed=0)
    assert (random.name, random.pretrained, black(random)) == ("tiny-quickgelu", "random seed 0", -2.0)
    assert has_quick_gelu(random)
    assert random.identity()["preprocess"] == trained.identity()["preprocess"]


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("ViT-L-14", "openai"),
        ("ViT-B-32", "metaclip_400m"),
        ("ViT-B-16", "dfn2b"),
        ("ViT-H-14", "dfn5b"),
        ("RN50", "openai"),
    ],
)
def test_the_tags_of_the_field_that_want_quick_gelu(monkeypatch, weights, model, tag):
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED[model][tag], "file", str(weights))
    assert find_source(model, tag, None).recipe.quick_gelu
    assert find_source(model, tag, None).name == f"{model}-quickgelu"


def test_a_file_of_openai_is_known_by_its_marks(weights, quick, pixels):
    marked = quick.model.state_dict() | {name: torch.tensor(value) for name, value in MARKS.items()}
    torch.save(marked, weights)
    assert find_source("ViT-L-14", weights, None).recipe.quick_gelu
    (weights.parent / "tiny.json").write_text(json.dumps(CONFIG))
    clip = load_clip(weights.parent / "tiny.json", weights)
    assert torch.equal(clip.encode_image(pixels), quick.encode_image(pixels))
    (weights.parent / "tiny.json").write_text(json.dumps(CONFIG | {"quick_gelu": False}))
    with pytest.raises(ValueError, match=r"weights\.pt were trained with quick_gelu=True.*correct the model"):
        load_clip(weights.parent / "tiny.json", weights)


def test_the_config_of_the_hub_beside_the_weights_is_read(open_clips, weights):
    open_clips(openai=OPENAI | {"quick_gelu": True}, other=APPLE)
    beside = {"model_cfg": CONFIG | {"quick_gelu": True}, "preprocess_cfg": APPLE}
    (weights.parent / "open_clip_config.json").write_text(json.dumps(beside))
    clip = load_clip("tiny", weights)
    assert has_quick_gelu(clip)
    assert black(clip) == 0.0
    del beside["model_cfg"]["quick_gelu"]  # the hub's layout says all that is not usual
    (weights.parent / "open_clip_config.json").write_text(json.dumps(beside))
    assert not has_quick_gelu(load_clip("tiny", weights))


def test_a_file_that_does_not_tell_is_refused_where_the_tags_differ(open_clips, weights):
    open_clips(openai=OPENAI | {"quick_gelu": True}, other=APPLE)
    with pytest.raises(ValueError, match=r"does not tell how it was trained.*Set clip\.like") as error:
        load_clip("tiny", weights)
    assert "quick_gelu: True (openai), False (other)" in str(error.value)
    assert "mean: (0.5, 0.5, 0.5) (openai), (0.0, 0.0, 0.0) (other)" in str(error.value)
    clip = load_clip("tiny", weights, like="openai")
    assert (has_quick_gelu(clip), black(clip)) == (True, -2.0)
    assert not has_quick_gelu(load_clip("tiny", weights, like="other"))
    with pytest.raises(ValueError, match=r"like must be a tag of tiny, got 'third'; its tags: openai, other"):
        load_clip("tiny", weights, like="third")


def test_what_all_tags_agree_on_is_taken(open_clips, weights):
    open_clips(one=APPLE, two=APPLE)
    clip = load_clip("tiny", weights)
    assert (has_quick_gelu(clip), black(clip)) == (False, 0.0)
    assert clip.visual.preprocess_cfg["interpolation"] == "bilinear"


@pytest.mark.parametrize(
    ("model", "mean", "interpolation", "resize_mode"),
    [
        ("MobileCLIP-S1", 0.0, "bilinear", "shortest"),
        ("ViT-B-16-SigLIP", 0.5, "bicubic", "squash"),
        ("ViT-L-14-quickgelu", 0.48145466, "bicubic", "shortest"),
    ],
)
def test_local_weights_of_models_of_the_field(weights, model, mean, interpolation, resize_mode):
    recipe = find_source(model, weights, None).recipe
    assert recipe.preprocess["mean"][0] == mean
    assert (recipe.preprocess["interpolation"], recipe.preprocess["resize_mode"]) == (
        interpolation,
        resize_mode,
    )


def test_local_weights_of_models_whose_tags_differ(weights):
    for model, key in (("ViT-L-14", "mean"), ("ViT-B-32", "quick_gelu"), ("ViT-H-14", "resize_mode")):
        with pytest.raises(ValueError, match=rf"tags of {model} differ in .*{key}: .*clip\.like"):
            find_source(model, weights, None)


def test_a_copy_of_a_config_of_open_clip_is_that_model(open_clips, weights):
    open_clips(one=APPLE)
    path = weights.parent / "copy.json"
    path.write_text(json.dumps(CONFIG))
    assert black(load_clip(path, weights)) == 0.0
    stated = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3}}
    path.write_text(json.dumps(stated))
    assert black(load_clip(path, weights)) == -0.5  # what the file states goes before, std is the tags'


def test_a_config_without_tags_gets_what_open_clip_takes_by_itself(weights):
    (weights.parent / "own.json").write_text(json.dumps(CONFIG))
    clip = load_clip(weights.parent / "own.json", weights)
    assert clip.visual.preprocess_cfg["mean"] == open_clip.OPENAI_DATASET_MEAN
    assert not has_quick_gelu(clip)
    with pytest.raises(ValueError, match="it has none: state it in the model config"):
        load_clip(weights.parent / "own.json", weights, like="openai")


@pytest.mark.parametrize(("model", "pretrained"), [("hf-hub:org/name", None), ("ViT-B-32", None)])
def test_like_without_a_local_file_is_refused(model, pretrained):
    with pytest.raises(ValueError, match=r"clip\.like tells how a local checkpoint was trained"):
        load_clip(model, pretrained, like="openai")
