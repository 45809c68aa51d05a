"""Reading the files of others: tensors only, each key accounted for."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lightning_sae.trust.damaged import UNREADABLE
from lightning_sae.trust.documents import read_json


def read_settings(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON object that says what the weights beside it are.

    Args:
        path: the file.
        needed: keys that it must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or lacks a key.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} has no {path.name}: the weights alone do not say what they are"
        )
    return read_json(path, needed)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, in float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or incomplete.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        return _as_float32(safetensors.torch.load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}); copy it again") from error


def read_pickled(path: Path) -> dict[str, Any]:
    """Return a mapping that `torch.save` wrote. Tensors and plain values are read, code is not run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is damaged, or holds other things than tensors, which could run code and are not read "
            f"({reason}); save its tensors alone"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of named tensors")
    return dict(content)


def only_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors among the values, in float32."""
    return _as_float32({name: value for name, value in content.items() if isinstance(value, Tensor)})


def check_keys(
    where: Path, tensors: Mapping[str, Tensor], needed: Iterable[str], ignored: Iterable[str] = ()
) -> None:
    """Refuse tensors of other names than the format has.

    Raises:
        ValueError: names what is missing and what is unexpected.
    """
    needed = set(needed)
    missing, unexpected = needed - tensors.keys(), tensors.keys() - needed - set(ignored)
    if missing or unexpected:
        parts = [f"missing {sorted(missing)}"] if missing else []
        parts += [f"unexpected {sorted(unexpected)}"] if unexpected else []
        raise ValueError(f"{where} has other tensors than its format: {', '.join(parts)}")


def require(where: Path, config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse settings that cannot be expressed here.

    Args:
        where: file of the configuration.
        config: what it says; an absent key is as expected.
        expected: key -> the only value that can be expressed here.

    Raises:
        ValueError: names the first other value.
    """
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ValueError(f"{where}: {key}={config[key]!r} cannot be expressed here, only {value!r}")


def _as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
