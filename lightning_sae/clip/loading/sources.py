"""Where a CLIP comes from: open_clip's names and tags, or local config and checkpoint files."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.pretrained import download_pretrained_from_hf
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from lightning_sae.clip.loading.checkpoint import (
    State,
    check_finite,
    fill,
    fill_from_big_vision,
    is_big_vision,
    read_state,
)
from lightning_sae.clip.loading.model_config import ModelConfig, built_in_model, local_model, read_config
from lightning_sae.clip.loading.recipe import (
    Recipe,
    agreed_recipe,
    openai_recipe,
    stated_recipe,
    tag_recipe,
    tags_of,
    without_openai_marks,
)
from lightning_sae.files import user_path
from lightning_sae.mappings import flatten
from lightning_sae.trust.documents import read_json

Preprocess = Callable[[Image.Image], Tensor]
Tokenizer = Callable[[list[str]], Tensor]

HUB = "hf-hub:"
MOST_LAYERS = 1000  # of a part of a model: even on the meta device more take seconds and gigabytes
MOST_MORE = 2  # times the numbers of a checkpoint: other image sizes and contexts add less
BESIDE = "open_clip_config.json"  # beside the weights in a repository of the hub
_WEIGHTS = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}
_UNFIT = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError)
_QUICK = "-quickgelu"  # what open_clip calls a model whose activation function is QuickGELU


class Source(NamedTuple):
    """A model as open_clip knows it, and the checkpoint that fills it.

    Attributes:
        name: an open_clip model name (of a local config: stem and digest of its content) or `hf-hub:...`;
            ends in `-quickgelu` where its weights ask for that activation function.
        registered: the name by which open_clip has its config.
        tag: open_clip's pretrained tag, which carries the preprocessing; `None` for anything else.
        checkpoint: the weights file; `None` for random weights.
        state: what a local checkpoint holds; `None` for what open_clip reads by itself.
        recipe: activation function and preprocessing, as far as open_clip does not know them.
    """

    name: str
    registered: str
    tag: str | None
    checkpoint: Path | None
    state: State | None
    recipe: Recipe


def find_source(
    model: str | Path,
    pretrained: str | Path | None,
    cache_dir: str | None,
    like: str | None = None,
    fetch: bool = True,
) -> Source:
    """Resolve the words of a user, fetching the checkpoint of a tag into the cache.

    Args:
        model: as in `load_clip`.
        pretrained: as in `load_clip`.
        cache_dir: as in `load_clip`.
        like: as in `load_clip`.
        fetch: whether weights that are not a local file are fetched; how those of a tag were trained is known
            without them.

    Raises:
        FileNotFoundError: a config or checkpoint file is missing.
        ValueError: unknown model or tag; broken config; an unreadable checkpoint, or one that does not tell
            how it was trained.
        ConnectionError: weights are not in the cache and cannot be fetched.
    """
    name = str(model)
    if like is not None and (name.startswith(HUB) or pretrained is None):
        raise ValueError(f"clip.like tells how a local checkpoint was trained, got {like!r} without one")
    if name.startswith(HUB):
        if pretrained is not None:
            raise ValueError(f"{name} brings its own weights, got pretrained={pretrained!r}: set it to null")
        _check_config(name, name, cache_dir)
        if not fetch:
            return Source(name, name, None, None, None, Recipe())
        checkpoint = _fetch(name, None, cache_dir)
        return Source(name, name, None, checkpoint, _state(checkpoint), Recipe())
    known = local_model(user_path(model)) if name.lower().endswith(".json") else built_in_model(name)
    if pretrained is None:
        return Source(known.name, known.registered, None, None, None, known.stated)
    if open_clip.is_pretrained_cfg(known.name, str(pretrained)):
        tag = str(pretrained)
        if not fetch:  # open_clip fetches what a tag names
            return _source(known, None, None, None, tag_recipe(known.name, tag))
        checkpoint = _fetch(known.name, tag, cache_dir)
        return _source(known, tag, checkpoint, _state(checkpoint), tag_recipe(known.name, tag))
    checkpoint = _local_checkpoint(known.name, pretrained)
    state = _state(checkpoint)
    return _source(known, None, checkpoint, state, _local_recipe(known, checkpoint, state or {}, like))


def _source(
    model: ModelConfig, tag: str | None, checkpoint: Path | None, state: State | None, recipe: Recipe
) -> Source:
    quick = recipe.quick_gelu and not model.stated.quick_gelu
    return Source(model.name + (_QUICK if quick else ""), model.registered, tag, checkpoint, state, recipe)


def _state(checkpoint: Path) -> State | None:
    return None if is_big_vision(checkpoint) else read_state(checkpoint)


def _local_recipe(model: ModelConfig, path: Path, state: Mapping[str, Any], like: str | None) -> Recipe:
    """Return how the weights of a file were trained, as the user, files, or all tags of its model say.

    Raises:
        ValueError: nobody says it and the tags differ, an unknown tag, or a contradiction.
    """
    tags = tags_of(model.twins)
    if like is not None and like not in tags:
        known_tags = f"its tags: {', '.join(tags)}" if tags else "it has none: state it in the model config"
        raise ValueError(f"clip.like must be a tag of {model.name}, got {like!r}; {known_tags}")
    told = tags[like] if like is not None else _beside(path) or openai_recipe(state) or Recipe()
    if None not in (told.quick_gelu, model.stated.quick_gelu) and told.quick_gelu != model.stated.quick_gelu:
        raise ValueError(
            f"the weights of {path} were trained with quick_gelu={told.quick_gelu}, and {model.name} states "
            f"{model.stated.quick_gelu}: correct the model config, or take the model of the other name"
        )
    known = model.stated.completed(told)
    try:
        return agreed_recipe(known, tags)
    except ValueError as error:
        raise ValueError(
            f"{path} does not tell how it was trained, and the tags of {model.name} differ in {error}. Set "
            "clip.like to the tag that it is trained like, or state quick_gelu and preprocess_cfg in a model "
            "config .json"
        ) from error


def _beside(checkpoint: Path) -> Recipe | None:
    """Return the recipe in the file that the hub has beside the weights, if the file lies there."""
    path = checkpoint.parent / BESIDE
    return stated_recipe(*read_config(path)) if path.is_file() else None


def build(source: Source, precision: str, cache_dir: str | None) -> tuple[nn.Module, Preprocess, Tokenizer]:
    """Return the model with random weights, its preprocessing (PIL image -> `[3, H, W]`) and its tokenizer.

    Raises:
        ValueError: the config describes no model or a far too deep one, its vocabulary is not that of its
            tokenizer, or its tokenizer is to run code of a repository.
        ConnectionError: a tokenizer or text config cannot be fetched.
        ModuleNotFoundError: its text tower needs the package transformers.
    """
    if not source.name.startswith(HUB):  # else it has been looked at before the weights were fetched
        _check_config(source.name, source.registered, cache_dir)
    with _in_our_words(source):
        wanted = _numbers(source)
    _refuse_size(source, wanted)
    with _in_our_words(source), _unfilled():
        model: Any = open_clip.create_model(
            source.registered,
            source.tag,
            load_weights=False,
            precision=precision,
            pretrained_text=False,
            force_quick_gelu=bool(source.recipe.quick_gelu),
            force_preprocess_cfg=dict(source.recipe.preprocess),
            cache_dir=cache_dir,
        )
        tokenizer = _tokenizer(source.registered, cache_dir)
        preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
        preprocess(Image.new("RGB", (8, 8)))
    _refuse_unfit_pool(model.visual, source.name)
    _refuse_unfit_tokenizer(model, tokenizer, source.name)
    return model, preprocess, tokenizer


def build_random(
    source: Source, precision: str, cache_dir: str | None, seed: int
) -> tuple[nn.Module, Preprocess, Tokenizer]:
    """Return the same as `build`, with weights drawn by a seed; the run's own draws are not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(source, precision, cache_dir)


@cache
def _tokenizer(registered: str, cache_dir: str | None) -> Tokenizer:
    """Return the tokenizer of a config, read once for all CLIPs of that config."""
    tokenizer: Tokenizer = open_clip.get_tokenizer(registered, cache_dir=cache_dir)
    return tokenizer


def _check_config(name: str, registered: str, cache_dir: str | None) -> None:
    """Refuse a config that has its tokenizer run code, or that takes minutes to build."""
    if name.startswith(HUB):
        place = {"filename": "open_clip_config.json", "cache_dir": cache_dir}
        try:
            file = download_pretrained_from_hf(name.removeprefix(HUB), **place)
        except OSError as error:
            raise ConnectionError(
                f"could not fetch the config of {name}: {error}. Without a network use a local checkpoint: "
                "clip.model=CONFIG.json clip.pretrained=FILE"
            ) from error
        config = flatten(read_json(file)).items()
    else:
        config = flatten(open_clip.get_model_config(registered)).items()
    if any(value for key, value in config if key.endswith("tokenizer_kwargs.trust_remote_code")):
        raise ValueError(
            f"the config of {name} wants its tokenizer to run code (trust_remote_code), which is never run: "
            "take it out of text_cfg.tokenizer_kwargs, in a copy of the config"
        )
    given = [value for key, value in config if key.endswith(".layers")]
    depths = [n for value in given for n in (value if isinstance(value, list) else [value])]
    if most := [n for n in depths if isinstance(n, int) and n > MOST_LAYERS]:
        raise ValueError(f"the config of {name} has a tower of {most[0]:,} layers, more than {MOST_LAYERS:,}")


@contextmanager
def _in_our_words(source: Source) -> Iterator[None]:
    """Tell the user, in our words, what open_clip raises when it builds a model in the block."""
    try:
        yield
    except OSError as error:
        raise ConnectionError(f"could not fetch a part of {source.name}: {error}") from error
    except (ImportError, *_UNFIT) as error:
        if isinstance(error, ImportError) or "pip install transformers" in str(error):
            raise ModuleNotFoundError(
                f"{source.name} has a text tower or tokenizer of Hugging Face: pip install transformers "
                f"({error})"
            ) from error
        raise ValueError(
            f"the config of {source.name} describes no model that can be built here: {error}. Compare it "
            "with open_clip's configs"
        ) from error


def _numbers(source: Source) -> int:
    """Return the number of parameters of a model that local weights are to fill, without allocating them.

    It is 0 for models whose sizes are those of the hub.
    """
    if source.state is None or source.name.startswith(HUB):
        return 0
    if "hf_model_name" in open_clip.get_model_config(source.registered)["text_cfg"]:
        return 0
    with _unfilled(), torch.random.fork_rng(devices=[]), torch.device("meta"):  # draws nothing of a run
        model = open_clip.create_model(source.registered, load_weights=False, device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


def _refuse_size(source: Source, wanted: int) -> None:
    """Refuse a model that is far larger than its weights: it would take memory that they cannot fill."""
    there = sum(tensor.numel() for tensor in (source.state or {}).values())
    if source.state and wanted > MOST_MORE * there:
        raise ValueError(
            f"checkpoint {source.checkpoint} does not fit the model {source.name}: it has {there:,} numbers, "
            f"and the model {wanted:,}. Give the model config that it was trained with"
        )


def _refuse_unfit_pool(visual: Any, name: str) -> None:
    """Refuse two attention pools of unlike widths: open_clip's forward has one layer norm for both."""
    if getattr(visual, "attn_pool_contrastive", None) is None:
        return
    width, d_embed = visual.positional_embedding.shape[1], visual.output_dim
    if width != d_embed:
        raise ValueError(
            f"{name} pools attention twice ({visual.attn_pool_type}), which open_clip can only do where the "
            f"width is embed_dim, got {width} and {d_embed}; take attentional_pool=true, or equal widths"
        )


def _refuse_unfit_tokenizer(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse CLIP's own tokenizer, which a config without one gets, if some ids have no embedding."""
    n_known = getattr(getattr(model, "text", model), "vocab_size", None)
    if isinstance(tokenizer, SimpleTokenizer) and n_known is not None and n_known < tokenizer.vocab_size:
        raise ValueError(
            f"the text tower of {name} knows {n_known} tokens, and its config names no tokenizer; CLIP's own "
            f"has {tokenizer.vocab_size}: set text_cfg.hf_tokenizer_name in the config"
        )


def load_weights(model: nn.Module, source: Source) -> None:
    """Fill the model from the source's checkpoint; fp16 files load into the model's own precision.

    Raises:
        ValueError: the checkpoint does not fit the model, or has weights that are not finite.
    """
    assert source.checkpoint is not None
    if source.state is None:
        fill_from_big_vision(model, source.checkpoint)
    else:
        fill(model, without_openai_marks(source.state), source.checkpoint, source.name)
    check_finite(model, source.checkpoint)


@contextmanager
def _unfilled() -> Iterator[None]:
    """Keep open_clip from logging that the weights are random: they are loaded next, with our errors."""

    def is_ours(record: logging.LogRecord) -> bool:
        return record.module != "factory"

    logging.getLogger().addFilter(is_ours)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(is_ours)


def _local_checkpoint(name: str, pretrained: str | Path) -> Path:
    path = user_path(pretrained)
    if path.is_file():
        return path
    tags = open_clip.list_pretrained_tags_by_model(name)
    if path.suffix.lower() in _WEIGHTS or len(path.parts) > 1 or not tags:
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
