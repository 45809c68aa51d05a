"""Settings from Python, taken apart into words of `train.py` and objects."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.types import Quote, QuotedString

from lightning_sae.composing.given import is_plain
from lightning_sae.mappings import flatten

GROUPS = ("clip", "data", "labels", "sae")
"""Groups of the configuration in whose place an object can stand."""
IN_DATA = ("hook_point", "hook_points", "tokens", "clip")
"""Settings that a datamodule holds."""


class Settings(NamedTuple):
    """Settings, taken apart.

    Attributes:
        words: words of the command line.
        objects: key of the configuration -> object that takes its place.
    """

    words: list[str]
    objects: dict[str, Any]


def read_settings(settings: Mapping[str, Any]) -> Settings:
    """Take settings apart into words of the command line and objects.

    Args:
        settings: key as on the command line, `sae.k` or nested, with its value; `~callbacks.NAME` with
            `None` leaves a callback out, `+module.NAME` adds an argument.

    Raises:
        ValueError: an object stands where only values are allowed.

    Example:
        >>> read_settings({"sae": "topk", "module": {"lr": 1e-3}, "~callbacks.gallery": None}).words
        ["sae='topk'", 'module.lr=0.001', '~callbacks.gallery']
    """
    flat = flatten(settings)
    objects = {key: value for key, value in flat.items() if not is_plain(value)}
    _check_objects(objects)
    _check_values([key for key in flat if key not in objects], objects)
    left_out = [key for key in objects if key in GROUPS] + ["clip"] * ("data" in objects)
    words = [_word(key, value) for key, value in flat.items() if key not in objects]
    return Settings([*words, *(f"~{key}" for key in left_out)], objects)


def _check_objects(objects: Mapping[str, Any]) -> None:
    for key, value in objects.items():
        if key not in (*GROUPS, "data.judge") and not re.fullmatch(r"(callbacks|logger)\.[^.]+", key):
            raise ValueError(
                f"{key} takes a number, a text, or a list of them, got {type(value).__name__}; objects can "
                f"stand for {', '.join(GROUPS)}, data.judge, callbacks.NAME and logger.NAME"
            )


def _check_values(keys: Sequence[str], objects: Mapping[str, Any]) -> None:
    """Refuse settings of a part for which an object is given, as the object already has them."""
    for key in [*keys, *objects]:
        owner = next((name for name in objects if key.startswith(f"{name}.")), "")
        if "data" in objects and key in IN_DATA:
            owner = "data"
        if owner:
            raise ValueError(f"{key} is a part of {owner}, an object here: set it where that is made")


def _word(key: str, value: Any) -> str:
    return key if key.startswith("~") else f"{key}={literal(value)}"


def literal(value: str | float | Path | Sequence[Any] | None) -> str:
    r"""Write a value as Hydra reads it.

    Example:
        >>> literal(["it's", True, None, 1e-05])
        "['it\\'s',true,null,1e-05]"
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return QuotedString(str(value), Quote.single).with_quotes()
    if isinstance(value, Sequence):
        return f"[{','.join(literal(item) for item in value)}]"
    return repr(value)
