"""The callbacks and loggers that a config lists."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate


def make_listed(nodes: Mapping[str, Any] | None, group: str) -> list[Any]:
    """Return the objects that a group of the config lists, in its order.

    They are given plain lists and dictionaries: in its own OmegaConf makes a config of a dataclass.

    Args:
        nodes: name -> the settings of each, with its `_target_`, or `None` for one that is left out.
        group: of the config, as `callbacks`.

    Raises:
        ValueError: settings of something that the list does not have, as of a callback that an experiment
            sets and `callbacks=[...]` leaves out.

    Example:
        >>> make_listed({"half": {"_target_": "fractions.Fraction", "numerator": 1}}, "numbers")
        [Fraction(1, 1)]
    """
    listed = {name: node for name, node in (nodes or {}).items() if node is not None}
    for name, node in listed.items():
        if "_target_" not in node:
            raise ValueError(
                f"{group}.{name} has settings ({', '.join(map(str, node))}), and {name} is not in the list: "
                f"add it, {group}=[..., {name}], or leave its settings out, '~{group}.{name}'"
            )
    return [instantiate(node, _convert_="all") for node in listed.values()]
