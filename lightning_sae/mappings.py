"""Nested mappings, such as configurations, made flat, and the differences between two of them."""

from collections.abc import Callable, Mapping
from typing import Any


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a flat mapping whose keys are the nested keys joined by dots.

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
    """Return the keys whose values differ, with both values; a missing key has the value `None`.

    Args:
        before: flat mapping of the earlier values.
        now: flat mapping of the present values; its keys come first.
        show: function that writes a value as text.

    Example:
        >>> differences({"sae.k": 16, "lr": 0.1}, {"lr": 0.1, "sae.k": 8, "seed": 0})
        ['sae.k 16 -> 8', 'seed None -> 0']
    """
    keys = [*now, *(key for key in before if key not in now)]
    pairs = [(key, before.get(key), now.get(key)) for key in keys]
    return [f"{key} {show(then)} -> {show(here)}" for key, then, here in pairs if then != here]


def clip_differences(recorded: Any, clip: Mapping[str, str]) -> str:
    """Return the differences of two identities of a CLIP; if the weights' hashes agree, names may differ.

    Args:
        recorded: identity of the CLIP that something was made for, as a file has it.
        clip: `Clip.identity()` of the CLIP at hand.

    Returns:
        The keys with both values; "" for the same CLIP.

    Example:
        >>> clip_differences({"model": "A", "weights": "ab"}, {"model": "B", "weights": "ab"})
        ''
        >>> clip_differences({"weights": "ab"}, {"weights": "cd"})
        "weights: 'ab' here, 'cd' given"
        >>> clip_differences(5, {"weights": "cd"})
        '5 here, which is none'
    """
    if not isinstance(recorded, Mapping):
        return f"{recorded!r:.100} here, which is none"
    same_weights = "weights" in clip and recorded.get("weights") == clip["weights"]
    keys = clip.keys() - ({"model", "pretrained"} if same_weights else set())
    differ = sorted(key for key in keys if recorded.get(key) != clip[key])
    return "; ".join(f"{key}: {recorded.get(key)!r} here, {clip[key]!r} given" for key in differ)


def check_clip(what: str, recorded: Any, clip: Mapping[str, str]) -> None:
    """Refuse a CLIP that something was not made for.

    Args:
        what: name of the thing that was made, for the message.
        recorded: identity of the CLIP that it was made for.
        clip: identity of the CLIP that is to be used (`Clip.identity()`).

    Raises:
        ValueError: the identities differ; the message says in what.

    Example:
        >>> check_clip("it", {"model": "a", "weights": "1"}, {"model": "b", "weights": "1"})
    """
    if differ := clip_differences(recorded, clip):
        raise ValueError(
            f"{what} was made for another CLIP ({differ}); "
            "load that CLIP, or pass strict=False to use it all the same"
        )
