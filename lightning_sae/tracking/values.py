"""Which way a logged value is better: for summaries in a tracker, and for comparing runs."""

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, cast, get_args

Direction = Literal["min", "max"]

_BETTER: dict[str, Direction] = {
    "*loss": "min",
    "train/mse": "min",
    "val/fvu*": "min",
    "val/l0": "min",
    "val/cosine": "max",
    "*dead_fraction": "min",
    "alignment/polysemanticity": "min",
    "alignment/polysemanticity_semantic_lens": "min",
    "alignment/redundancy*": "min",
    "alignment/churn": "min",
    "alignment/*": "max",
    "truth/*": "max",
    "zero_shot/*": "max",
    "attribution/unexpected_share": "min",
    "attribution/*_share": "min",
    "probe_vs_prompt/*_share": "min",
    "probe_vs_prompt/*": "max",
    "faithfulness/*_deletion": "min",
    "faithfulness/*_insertion": "max",
    "faithfulness/*_rank_correlation": "max",
}
"""Pattern of keys -> the better direction; the first that fits counts."""


class Goal(NamedTuple):
    """A logged value and its better direction."""

    key: str
    direction: Direction

    @property
    def sign(self) -> int:
        """1 where smaller is better, -1 where larger is."""
        return 1 if self.direction == "min" else -1

    @property
    def ascending(self) -> bool:
        """Whether the best comes first in ascending order."""
        return self.direction == "min"


def better(key: str) -> Direction | None:
    """The better direction of a logged value; `None` where it depends.

    Example:
        >>> better("val/fvu"), better("zero_shot/spliced_worst"), better("attribution/positive_mass")
        ('min', 'max', None)
    """
    return next((way for pattern, way in _BETTER.items() if fnmatchcase(key, pattern)), None)


def goal(text: str) -> Goal:
    """Reads `KEY`, `KEY:min` or `KEY:max`.

    Raises:
        ValueError: another direction, or none and the key has no known one.

    Example:
        >>> goal("val/fvu"), goal("attribution/bias:max")
        (Goal(key='val/fvu', direction='min'), Goal(key='attribution/bias', direction='max'))
    """
    key, _, way = text.partition(":")
    way = way or better(key) or ""
    if way not in get_args(Direction):
        raise ValueError(
            f"which way is {key!r} better? Write {key}:min or {key}:max"
            if text == key
            else f"a direction is min or max, got {text!r}"
        )
    return Goal(key, cast(Direction, way))
