"""Packages whose names are imported when they are first asked for."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazily(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package that imports its names late.

    Args:
        package: name of the package.
        homes: module as `import_module` takes it -> names that it gives.

    Example:
        >>> lazily("lightning_sae", {".files": ["user_path"]})[0]("user_path").__name__
        'user_path'
    """
    modules = {name: home for home, names in homes.items() for name in names}

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(modules)}")
        found = getattr(import_module(modules[name], package), name)
        setattr(sys.modules[package], name, found)
        return found

    return getattr_, lambda: sorted({*vars(sys.modules[package]), *modules})
