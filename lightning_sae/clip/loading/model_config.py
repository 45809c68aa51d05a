"""Model configs: those that open_clip has, and local files that are made known to it."""

import difflib
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import open_clip

from lightning_sae.clip.loading.recipe import Recipe, same_models, stated_recipe
from lightning_sae.trust.documents import read_json

_REGISTERED = "config-"  # before the digests of local configs


class ModelConfig(NamedTuple):
    """A model that open_clip can build.

    Attributes:
        name: its name; of a local config the stem and a digest of its content.
        registered: the name by which open_clip has it.
        stated: what it states about the training of its weights.
        twins: names of open_clip's own models that are the same but for the activation function.
    """

    name: str
    registered: str
    stated: Recipe
    twins: list[str]


def built_in_model(name: str) -> ModelConfig:
    """Return a model of open_clip.

    Raises:
        ValueError: there is none of that name; names close ones.
    """
    name = name.replace("/", "-")
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"unknown CLIP model {name!r}; close names: {', '.join(close) or 'none'}. Give a name of "
            "open_clip.list_models(), hf-hub:ORG/NAME, or the path of a model-config .json"
        )
    return ModelConfig(name, name, stated_recipe(open_clip.get_model_config(name), {}), [name])


def local_model(path: Path) -> ModelConfig:
    """Make a model-config JSON known to open_clip, under a name that depends on its content alone.

    The file's own name is for people only: open_clip would choose a tokenizer by it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no model config.
    """
    config, preprocess = read_config(path)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    registered = f"{_REGISTERED}{digest}"
    twins = [name for name in same_models(config) if not name.startswith(_REGISTERED)]
    if registered not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"{registered}.json")
            copy.write_text(json.dumps(config))
            open_clip.add_model_config(copy)
    return ModelConfig(f"{path.stem}-{digest}", registered, stated_recipe(config, preprocess), twins)


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the model and preprocessing of a config.

    The hub's layout is complete: if it says nothing of the activation function, that is the GELU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, or lacks a part of a model, or has something else in its place.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no model config {path}. Give an open_clip config .json, or a model name")
    document = read_json(path)
    is_hub = "model_cfg" in document
    config = document["model_cfg"] if is_hub else document
    preprocess = document.get("preprocess_cfg", {}) if is_hub else {}
    found = {**config, "preprocess_cfg": preprocess} if isinstance(config, dict) else {}
    needed = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict, "preprocess_cfg": dict}
    if missing := [key for key, kind in needed.items() if not isinstance(found.get(key), kind)]:
        raise ValueError(f"model config {path} lacks {', '.join(missing)} as open_clip's configs have it")
    return ({"quick_gelu": False, **config} if is_hub else config), preprocess
