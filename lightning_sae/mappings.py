"""Nested mappings, such as configurations, as flat ones."""

from collections.abc import Mapping
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
