"""The weights of a CLIP in the files that people have, read without running code."""

import warnings
from collections.abc import Callable, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from open_clip.convert import convert_state_dict, load_big_vision_weights
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from lightning_sae.trust.damaged import UNREADABLE

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "clip.", "clip_model.")
_COMPILED = "_orig_mod."  # before all that torch.compile has wrapped, wherever it stands
_BIG_VISION = (".npz", ".npy")


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint by their names.

    Mappings in which trainers wrap the tensors, and prefixes that trainers put before the names, are left
    out.

    Args:
        path: `.safetensors`, or what `torch.save` writes: a state dict, or one under `state_dict`,
            `model_state_dict` or `model`; the prefixes of DDP, `torch.compile` and Lightning modules are
            dropped, and so are modules beside the CLIP, with a warning.

    Raises:
        ValueError: the file is truncated, of another format, or runs code when unpickled.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from error
    found = {str(key): value for key, value in _unwrapped(content).items() if isinstance(value, Tensor)}
    state, beside = _without_prefixes(found)
    if beside:
        warnings.warn(f"{path} holds more than a CLIP, and is read without {_few(beside)}", stacklevel=2)
    return state


def is_big_vision(path: Path) -> bool:
    """Return whether a checkpoint is of Google's big_vision, which open_clip reads by itself."""
    return path.suffix.lower() in _BIG_VISION


def fill_from_big_vision(model: Any, path: Path) -> None:
    """Fill a SigLIP from a `.npz` file of its authors.

    Raises:
        ValueError: the file is truncated, of another format, or of another model.
    """
    try:
        load_big_vision_weights(model, str(path))
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from error


def fill(model: Any, state: State, path: Path, name: str) -> None:
    """Fill a model from a state; values are cast to the model's own precision.

    Position embeddings of another image size or context length are resized in float32, as open_clip does.

    Args:
        model: of open_clip.
        state: of `read_state`.
        path: of the checkpoint, for the message.
        name: of the model, for the message.

    Raises:
        ValueError: the state does not fit the model; names missing, unexpected and other keys.
    """
    state = _laid_out(model, state)
    _resize(model, state)
    differences = _differences(state, model.state_dict())
    if differences:
        raise ValueError(
            f"checkpoint {path} does not fit the model {name}: {differences}. "
            "Give the model config that it was trained with"
        )
    model.load_state_dict(state)


def check_finite(model: Any, path: Path) -> None:
    """Refuse weights that make scores of NaN or infinity.

    Args:
        model: of open_clip, filled.
        path: of the checkpoint, for the message.

    Raises:
        ValueError: a weight is not finite, or exp(logit_scale) is not; names up to five.
    """
    values = model.state_dict()
    values["exp(logit_scale)"] = values["logit_scale"].float().exp()
    if bad := [key for key, value in values.items() if not value.isfinite().all()]:
        raise ValueError(
            f"checkpoint {path} has NaN or infinite weights: {_few(bad)}. Its training has failed, or it was "
            "damaged: take another checkpoint"
        )


def _unreadable(path: Path, error: Exception) -> str:
    if "TorchScript" in str(error):
        return (
            f"{path} is a TorchScript archive, as OpenAI publishes its models; these hold code, which is "
            "never run. Give the tag, clip.pretrained=openai, or save its weights where you trust it: "
            "torch.save(torch.jit.load(FILE, 'cpu').state_dict(), NEW)"
        )
    return (
        f"cannot read the checkpoint {path}: it is truncated, of another format, or holds code, which is "
        f"never run. Fetch it again, or save its state dict as .safetensors. The reader said: {error}"
    )


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        return {}
    inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    return content if inner is None else _unwrapped(inner)


def _without_prefixes(state: State) -> tuple[State, list[str]]:
    """Return a state without a prefix that most keys have, and the keys that are left out.

    The keys of modules beside the model are left out. A key without a dot, such as `logit_scale`, is a
    parameter of the model that only lacks the prefix.
    """
    state = {key.replace(_COMPILED, ""): value for key, value in state.items()}
    for prefix in _PREFIXES:
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if 2 * len(own) > len(state):
            others = {key: value for key, value in state.items() if not key.startswith(prefix)}
            bare = {key: value for key, value in others.items() if "." not in key}
            inner, beside = _without_prefixes(bare | own)
            return inner, [key for key in others if key not in bare] + beside
    return state, []


def _laid_out(model: Any, state: State) -> State:
    """Return the state with the names and shapes that this version of open_clip has.

    It is made in the way of open_clip's `load_checkpoint`.
    """
    state = dict(convert_state_dict(model, state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in expected and state[key].numel() == 1:
            state[key] = state[key].reshape(expected[key].shape)
    if "logit_bias" in expected and "logit_scale" in state:
        state.setdefault("logit_bias", torch.zeros_like(state["logit_scale"]))
    old = "text.transformer.embeddings.position_ids"  # transformers no longer keeps it
    return {key: value for key, value in state.items() if key != old or key in expected}


def _resize(model: Any, state: State) -> None:
    """Resize position embeddings to the model's image size and context length, where only these differ."""
    expected = model.state_dict()
    resizers: dict[str, Callable[[], object]] = {
        "visual.positional_embedding": lambda: resize_pos_embed(state, model),
        "visual.trunk.pos_embed": lambda: _resize_trunk(model.visual.trunk, state),
        "positional_embedding": lambda: resize_text_pos_embed(state, model),
        "text.positional_embedding": lambda: resize_text_pos_embed(state, model),
    }
    for key, resize in resizers.items():
        if key not in state or key not in expected or not _differ_in_length(state[key], expected[key]):
            continue
        if not key.startswith("visual.") or _is_grid(state[key].shape[-2], model.visual):
            state[key] = state[key].float()  # there is no interpolation in half precision on a CPU
            resize()


def _differ_in_length(old: Tensor, new: Tensor) -> bool:
    """Return whether two `[..., length, width]` have other lengths and else the same shape."""
    return old.ndim == new.ndim >= 2 and old.shape[-1] == new.shape[-1] and old.shape != new.shape


def _resize_trunk(trunk: Any, state: State) -> None:
    key = "visual.trunk.pos_embed"
    state[key] = resample_abs_pos_embed(
        state[key], list(trunk.patch_embed.grid_size), num_prefix_tokens=_prefix(trunk)
    )


def _prefix(trunk: Any) -> int:
    return 0 if getattr(trunk, "no_embed_class", False) else int(getattr(trunk, "num_prefix_tokens", 0))


def _is_grid(length: int, visual: Any) -> bool:
    """Return whether so many positions are those of a square image, beside the class token."""
    patches = length - (_prefix(visual.trunk) if hasattr(visual, "trunk") else 1)
    return patches > 0 and isqrt(patches) ** 2 == patches


def _differences(state: State, expected: Mapping[str, Tensor]) -> str:
    misshaped = [
        f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    found = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": misshaped,
    }
    return "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in found.items() if keys)


def _few(keys: list[str], n: int = 5) -> str:
    return ", ".join(keys[:n]) + (", ..." if len(keys) > n else "")
