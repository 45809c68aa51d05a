"""Nested mappings, such as configurations, as flat ones, and where two of them differ."""

from collections.abc import Callable, Mapping
from typing import Any


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots.

    Example:
        >>> flatten({"clip": {"model": "ViT-B-32"}, "dtype": "float16"})
        {'clip.model': 'ViT-B-32', 'dtype': 'float16'}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + key: item}
    return flat


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], show: Callable[[Any], str] = repr
) -> list[str]:
    """Return the keys whose values differ, each with both; a key that is missing has `None`.

    Args:
        before: flat.
        now: flat; its keys come first.
        show: writes a value.

    Example:
        >>> differences({"sae.k": 16, "lr": 0.1}, {"lr": 0.1, "sae.k": 8, "seed": 0})
        ['sae.k 16 -> 8', 'seed None -> 0']
    """
    keys = [*now, *(key for key in before if key not in now)]
    pairs = [(key, before.get(key), now.get(key)) for key in keys]
    return [f"{key} {show(then)} -> {show(here)}" for key, then, here in pairs if then != here]
