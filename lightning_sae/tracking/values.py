"""The one table of logged values: which way each is better, and how it is shown."""

import math
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, cast, get_args

Direction = Literal["min", "max"]


class LoggedValue(NamedTuple):
    """The way in which a logged value is judged and shown.

    Attributes:
        better: the better direction; `None` where it depends.
        title: of its column where runs are compared; "" for a value that has no column there.
        form: its format there.
        card: row on the card of a variant, values of one row side by side; "" for none.
        summary: title of its line at the end of a training, and its words there; `None` for no line.
        narrow: whether it is also in a table of 80 columns.
    """

    better: Direction | None = None
    title: str = ""
    form: str = ".4g"
    card: str = ""
    summary: tuple[str, str] | None = None
    narrow: bool = False


VALUES = {
    "val/fvu": LoggedValue("min", "FVU", ".4f", "FVU", ("reconstruction", "FVU {:.3f}"), narrow=True),
    "val/fvu_layer_norm": LoggedValue(
        "min",
        "FVU after layer norm",
        ".4f",
        summary=("reconstruction", "FVU {:.3f} with each token's mean and spread given"),
    ),
    "val/l0": LoggedValue("min", "L0", ".1f", "L0", ("reconstruction", "L0 {:.1f}"), narrow=True),
    "train/dead_fraction": LoggedValue("min", "dead", ".1%", summary=("reconstruction", "dead {:.1%}")),
    "alignment/mean": LoggedValue("max", "alignment", ".3f", "alignment"),  # no summary: docs/baselines.md
    "alignment/clarity": LoggedValue("max", "clarity", ".3f", summary=("alignment", "clarity {:.3f}")),
    "alignment/named": LoggedValue(
        "max", "named", ".0f", "named latents", ("alignment", "{:.0f} latents named"), narrow=True
    ),
    "concepts/novel": LoggedValue(None, "no name yet", ".0f"),
    "pairs/right_way": LoggedValue(
        "max",
        "pairs, right way",
        ".1%",
        "pairs, right way",
        ("pairs", "{:.1%} move their latent the right way"),
    ),
    "pairs/selectivity": LoggedValue(
        "max", "pairs, selectivity", ".3f", "pairs, selectivity", ("pairs", "selectivity {:.3f}")
    ),
    "zero_shot/original": LoggedValue(
        "max", "accuracy", ".1%", "accuracy", ("zero-shot", "{:.1%} right"), narrow=True
    ),
    "zero_shot/spliced": LoggedValue("max", "spliced", ".1%", "accuracy"),  # no summary: docs/baselines.md
    "zero_shot/original_worst": LoggedValue(
        "max", "worst group", ".1%", "worst group", ("worst group", "{:.1%}"), narrow=True
    ),
    "zero_shot/spliced_worst": LoggedValue(
        "max", "worst group, spliced", ".1%", "worst group"
    ),  # no summary: docs/baselines.md
    "attribution/unexpected_share": LoggedValue(
        "min",
        "unexpected",
        ".1%",
        "unexpected",
        ("attribution", "{:.1%} of what drives the classes is unexpected"),
        narrow=True,
    ),
    "faithfulness/act_grad_deletion": LoggedValue("min", "deletion", ".3f"),
    "faithfulness/act_grad_insertion": LoggedValue("max", "insertion", ".3f"),
    "edges/replacement": LoggedValue("max", summary=("edges", "replacement {:.2f}")),
    "edges/completeness": LoggedValue("max", summary=("edges", "completeness {:.2f}")),
    "edges/faithfulness": LoggedValue(summary=("edges", "faithfulness {:.2f}")),
    "edges/faithfulness_random": LoggedValue(summary=("edges", "at random {:.2f}")),
    "edges/agreement": LoggedValue("max", summary=("edges", "agreement {:.2f}")),
    "*loss*": LoggedValue("min"),
    "train/mse*": LoggedValue("min"),
    "val/fvu*": LoggedValue("min"),
    "val/l0/*": LoggedValue("min"),
    "val/cosine*": LoggedValue("max"),
    "*dead_fraction*": LoggedValue("min"),
    "alignment/polysemanticity": LoggedValue("min"),
    "alignment/polysemanticity_semantic_lens": LoggedValue("min"),
    "alignment/redundancy*": LoggedValue("min"),
    "alignment/churn": LoggedValue("min"),
    "alignment/*": LoggedValue("max"),
    "truth/absorption_*": LoggedValue("min"),
    "truth/splitting_*": LoggedValue("min"),
    "truth/*": LoggedValue("max"),
    "pairs/*": LoggedValue("max"),
    "spatial/*": LoggedValue("max"),
    "steering/damage*": LoggedValue("min"),
    "steering/*": LoggedValue("max"),
    "zero_shot/*": LoggedValue("max"),
    "attribution/*_share": LoggedValue("min"),
    "probe_vs_prompt/*_share": LoggedValue("min"),
    "probe_vs_prompt/*": LoggedValue("max"),
    "faithfulness/*_deletion": LoggedValue("min"),
    "faithfulness/*_insertion": LoggedValue("max"),
    "faithfulness/*_rank_correlation": LoggedValue("max"),
}
"""Keys and patterns of keys, in the order in which they are shown; the first that fits counts."""


def logged_value(key: str) -> LoggedValue:
    """Return how the value of a key is judged and shown.

    Example:
        >>> logged_value("zero_shot/spliced").title, logged_value("zero_shot/spliced_group").better
        ('spliced', 'max')
    """
    fits = (value for pattern, value in VALUES.items() if fnmatchcase(key, pattern))
    return next(fits, LoggedValue())


def column_title(key: str) -> str:
    """Return what a logged value is called where runs are compared; the key itself where it has no title.

    Example:
        >>> column_title("val/fvu"), column_title("val/cosine")
        ('FVU', 'val/cosine')
    """
    return logged_value(key).title or key


def shown_value(key: str, number: Any) -> str:
    """Return a value as people read it; "" for NaN.

    Example:
        >>> shown_value("zero_shot/original", 0.5837), shown_value("val/l0", 16), shown_value("a", 0.5)
        ('58.4 %', '16.0', '0.5')
    """
    if not isinstance(number, int | float):
        return str(number)
    return "" if math.isnan(number) else format(number, logged_value(key).form).replace("%", " %")


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
        """True if the best comes first in ascending order."""
        return self.direction == "min"


def better(key: str) -> Direction | None:
    """Return the better direction of a logged value; `None` where it depends.

    Example:
        >>> better("val/fvu"), better("zero_shot/spliced_worst"), better("attribution/positive_mass")
        ('min', 'max', None)
        >>> better("val/cosine/resblocks.1")
        'max'
    """
    return logged_value(key).better


def goal(text: str) -> Goal:
    """Read `KEY`, `KEY:min` or `KEY:max`.

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
