"""Where a CLIP comes from: open_clip's names and tags, or local config and checkpoint files."""

import difflib
import hashlib
import json
import logging
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_sae.documents import read_json

Preprocess = Callable[[Image.Image], Tensor]
Tokenizer = Callable[[list[str]], Tensor]

HUB = "hf-hub:"
_UNREADABLE = (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError)
_MISFIT = (*_UNREADABLE, KeyError, AttributeError, TypeError, ValueError, StopIteration)


class Source(NamedTuple):
    """A model as open_clip knows it, and the checkpoint that fills it.

    Attributes:
        name: an open_clip model name (of a local config: stem and digest of its content) or `hf-hub:...`.
        tag: open_clip's pretrained tag, which carries the preprocessing; `None` for anything else.
        checkpoint: the weights file; `None` for random weights.
        preprocess: preprocessing settings that stand in a local config.
    """

    name: str
    tag: str | None
    checkpoint: Path | None
    preprocess: dict[str, Any]


def find_source(model: str | Path, pretrained: str | Path | None, cache_dir: str | None) -> Source:
    """Resolves the two strings of a user, fetching the checkpoint of a tag into the cache.

    Raises:
        FileNotFoundError: a config or checkpoint file is missing.
        ValueError: unknown model or tag, broken config.
        ConnectionError: weights are not in the cache and cannot be fetched.
    """
    if str(model).endswith(".json"):
        name, preprocess = _register_config(Path(model))
        checkpoint = None if pretrained is None else _local_checkpoint(name, pretrained)
        return Source(name, None, checkpoint, preprocess)
    name = str(model)
    if name.startswith(HUB):
        if pretrained is not None:
            raise ValueError(f"{name} brings its own weights, got pretrained={pretrained!r}: set it to null")
        return Source(name, None, _fetch(name, None, cache_dir), {})
    name = name.replace("/", "-")
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"unknown CLIP model {name!r}; close names: {', '.join(close) or 'none'}. Give a name of "
            "open_clip.list_models(), hf-hub:ORG/NAME, or the path of a model-config .json"
        )
    if pretrained is None:
        return Source(name, None, None, {})
    if open_clip.is_pretrained_cfg(name, str(pretrained)):
        return Source(name, str(pretrained), _fetch(name, str(pretrained), cache_dir), {})
    return Source(name, None, _local_checkpoint(name, pretrained), {})


def build(source: Source, precision: str, cache_dir: str | None) -> tuple[nn.Module, Preprocess, Tokenizer]:
    """The model with random weights, its preprocessing (PIL image -> `[3, H, W]`) and its tokenizer.

    Raises:
        ValueError: a config that describes no model, or whose tokenizer is to run code of a repository.
        ConnectionError: a tokenizer or text config cannot be fetched.
        ModuleNotFoundError: its text tower needs the package transformers.
    """
    _refuse_code(source.name, cache_dir)
    try:
        with _unfilled():
            model = open_clip.create_model(
                source.name,
                source.tag,
                load_weights=False,
                precision=precision,
                pretrained_text=False,
                force_preprocess_cfg=source.preprocess,
                cache_dir=cache_dir,
            )
            tokenizer: Tokenizer = open_clip.get_tokenizer(source.name, cache_dir=cache_dir)
    except OSError as error:
        raise ConnectionError(f"could not fetch a part of {source.name}: {error}") from error
    except (ImportError, RuntimeError) as error:  # open_clip raises either where transformers is not there
        raise ModuleNotFoundError(
            f"{source.name} has a text tower or tokenizer of Hugging Face: pip install transformers ({error})"
        ) from error
    except (TypeError, ValueError, AssertionError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(
            f"the config of {source.name} describes no model: {error}. Compare it with open_clip's configs"
        ) from error
    _refuse_unfit_pool(model.visual, source.name)
    preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return model, preprocess, tokenizer


def _refuse_code(name: str, cache_dir: str | None) -> None:
    """A config hands arguments to the tokenizer of Hugging Face, and one of them makes it run code."""
    if name.startswith(HUB):
        place = {"filename": "open_clip_config.json", "cache_dir": cache_dir}
        try:
            file = download_pretrained_from_hf(name.removeprefix(HUB), **place)
        except OSError as error:
            raise ConnectionError(f"could not fetch the config of {name}: {error}") from error
        config = read_json(file).get("model_cfg", {})
    else:
        config = open_clip.get_model_config(name)
    if (config.get("text_cfg", {}).get("tokenizer_kwargs") or {}).get("trust_remote_code"):
        raise ValueError(
            f"the config of {name} wants its tokenizer to run code (trust_remote_code), which is never run: "
            "take it out of text_cfg.tokenizer_kwargs, in a copy of the config"
        )


def _refuse_unfit_pool(visual: Any, name: str) -> None:
    """Two attention pools share one layer norm: open_clip's forward fails where widths differ."""
    if getattr(visual, "attn_pool_contrastive", None) is None:
        return
    width, d_embed = visual.positional_embedding.shape[1], visual.output_dim
    if width != d_embed:
        raise ValueError(
            f"{name} pools attention twice ({visual.attn_pool_type}), which open_clip can only do where the "
            f"width is embed_dim, got {width} and {d_embed}; take attentional_pool=true, or equal widths"
        )


def load_weights(model: nn.Module, source: Source) -> None:
    """Fills the model from the source's checkpoint; fp16 files load into the model's own precision.

    Raises:
        ValueError: the file is truncated, runs code when unpickled, or does not fit the model.
    """
    path = str(source.checkpoint)
    try:
        open_clip.load_checkpoint(model, path, weights_only=True)
    except _MISFIT as error:
        differences = _differences(_read(path), model.state_dict()) or str(error)
        raise ValueError(
            f"checkpoint {path} does not fit the model {source.name}: {differences}. "
            "Give the model config that it was trained with"
        ) from error


@contextmanager
def _unfilled() -> Iterator[None]:
    """Keeps open_clip from logging that the weights are random: they are loaded next, with our errors."""

    def is_ours(record: logging.LogRecord) -> bool:
        return record.module != "factory"

    logging.getLogger().addFilter(is_ours)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_ours)


def _local_checkpoint(name: str, pretrained: str | Path) -> Path:
    path = Path(pretrained)
    if path.is_file():
        return path
    tags = open_clip.list_pretrained_tags_by_model(name)
    if path.suffix in {".pt", ".pth", ".bin", ".ckpt", ".safetensors"} or len(path.parts) > 1 or not tags:
        raise FileNotFoundError(
            f"no checkpoint file {path}. Give a .pt or .safetensors file for {name}"
            + (f", or one of its tags: {', '.join(tags)}" if tags else "")
        )
    raise ValueError(
        f"unknown tag {str(pretrained)!r} for {name}; its tags: {', '.join(tags)}. "
        "Give one of them, or a checkpoint file"
    )


def _fetch(name: str, tag: str | None, cache_dir: str | None) -> Path:
    try:
        if tag is None:
            return Path(download_pretrained_from_hf(name.removeprefix(HUB), cache_dir=cache_dir))
        config = open_clip.get_pretrained_cfg(name, tag)
        return Path(open_clip.download_pretrained(config, cache_dir=cache_dir))
    except (OSError, RuntimeError) as error:  # no network, no such repository, a broken download
        instead = "model=CONFIG.json clip.pretrained=FILE" if tag is None else "pretrained=FILE"
        raise ConnectionError(
            f"could not fetch the weights of {name}{f' / {tag}' if tag else ''}: {error}. "
            f"Without a network use a local checkpoint: clip.{instead}"
        ) from error


def _register_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Makes a model-config JSON known to open_clip under a name made of its stem and content."""
    config, preprocess = _read_config(path)
    text = json.dumps(config, sort_keys=True)
    # open_clip keeps one config per file stem: the digest keeps two files of the same stem apart
    name = f"{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, f"{name}.json")
            copy.write_text(text)
            open_clip.add_model_config(copy)
    return name, preprocess


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"no model config {path}. Give an open_clip config .json, or a model name")
    document = read_json(path)
    config = document.get("model_cfg", document)
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in config]
    if missing:
        raise ValueError(f"model config {path} lacks {', '.join(missing)}. Give an open_clip model config")
    return config, document.get("preprocess_cfg", {})


def _read(path: str) -> dict[str, Any]:
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(
            f"cannot read the checkpoint {path}: it is truncated, of another format, or holds code, which is "
            f"never run. Fetch it again, or save its state dict as .safetensors. The reader said: {error}"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _differences(state: dict[str, Any], expected: dict[str, Tensor]) -> str:
    misshaped = [
        f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if isinstance(state.get(key), Tensor) and state[key].shape != value.shape
    ]
    found = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": misshaped,
    }
    return "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in found.items() if keys)


def _few(keys: list[str], n: int = 5) -> str:
    return ", ".join(keys[:n]) + (", ..." if len(keys) > n else "")
