"""The callbacks and loggers that a config lists."""

from collections.abc import Mapping
from typing import Any


def listed(nodes: Mapping[str, Any] | None, group: str) -> list[Any]:
    """Return the settings of the parts that a group of the config lists, in its order.

    Args:
        nodes: name -> the settings of each, with its `_target_`, or `None` for one that is left out.
        group: of the config, as `callbacks`.

    Raises:
        ValueError: settings of something that the list does not have, as of a callback that an experiment
            sets and `callbacks=[...]` leaves out.

    Example:
        >>> listed({"csv": {"_target_": "a.Logger", "flush": 1}, "other": None}, "logger")
        [{'_target_': 'a.Logger', 'flush': 1}]
    """
    found = {name: node for name, node in (nodes or {}).items() if node is not None}
    for name, node in found.items():
        if "_target_" not in node:
            raise ValueError(
                f"{group}.{name} has settings ({', '.join(map(str, node))}), and {name} is not in the list: "
                f"add it, {group}=[..., {name}], or leave its settings out, '~{group}.{name}'"
            )
    return list(found.values())
