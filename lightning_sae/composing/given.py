"""Objects that take the place of configured ones in a training that is started from Python."""

import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning_sae.data import ActivationDataModule

_HELD: ContextVar[Mapping[str, Any]] = ContextVar("held", default=MappingProxyType({}))


@contextmanager
def giving(objects: Mapping[str, Any]) -> Iterator[None]:
    """Let `given` find objects within the block, by the keys of the configuration that they replace."""
    before = _HELD.set(objects)
    try:
        yield
    finally:
        _HELD.reset(before)


def given(key: str, kind: str) -> Any:
    """Return the object that was given for a key of the configuration.

    Args:
        key: of the configuration, such as `callbacks.mine`.
        kind: class of the object, for the reader of the configuration.

    Raises:
        ValueError: there is no such object, as in a process other than that of the training.

    Example:
        >>> with giving({"labels": ["star"]}):
        ...     given("labels", "list")
        ['star']
    """
    if key not in _HELD.get():
        raise ValueError(
            f"{key} of this run was an object of Python, {kind}, which no configuration can build again: "
            "open the run with it, open_run(folder, data=...), or name the function that makes it in a YAML "
            "of your own (docs/extending.md)"
        )
    return _HELD.get()[key]


def node(key: str, value: Any) -> dict[str, Any]:
    """Return the configuration's entry for an object; a partial that can be imported is written out in full.

    Example:
        >>> node("labels", ["star"])["kind"]
        'builtins.list'
        >>> from fractions import Fraction
        >>> node("sae", partial(Fraction, denominator=2))
        {'_target_': 'fractions.Fraction', '_partial_': True, 'denominator': 2}
    """
    kind: Any = value if isinstance(value, type) else type(value)
    if isinstance(value, partial):
        kind, arguments = value.func, value.keywords
        if _is_importable(kind) and not value.args and is_plain([*arguments.values()]):
            return {"_target_": _path(kind), "_partial_": True, **arguments}
    return {"_target_": _path(given), "key": key, "kind": _path(kind)}


def is_plain(value: Any) -> bool:
    """Return whether a configuration can hold a value: a number, a text, a path, nothing, or a list of such.

    Example:
        >>> is_plain([1, "a", None]), is_plain(object())
        (True, False)
    """
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float | Path)


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _is_importable(thing: Any) -> bool:
    if thing.__module__ == "__main__" or "<" in thing.__qualname__:
        return False
    return pkgutil.resolve_name(f"{thing.__module__}:{thing.__qualname__}") is thing


def said_by(data: ActivationDataModule) -> dict[str, Any]:
    """Return the settings that a datamodule holds, so that the configuration says what is used.

    Raises:
        ValueError: the object is no datamodule.
    """
    if not isinstance(data, ActivationDataModule):
        raise ValueError(f"data must be an ActivationDataModule, got {type(data).__name__}")
    several = [*data.modules] if data.earlier else None
    return {
        "hook_point": data.hook.module,
        "hook_points": several,
        "tokens": data.hook.tokens,
        "clip": data.clip.name,
    }
