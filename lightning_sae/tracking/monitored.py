"""Names of logged values that a user gives, held against what the parts of a run log."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from lightning.pytorch import Callback, LightningModule, Trainer

LIGHTNING = ("epoch", "step", "lr-*")
"""Patterns of the keys that Lightning's own callbacks can log or monitor."""


def check_monitored(trainer: Trainer, module: LightningModule, optimized: Iterable[str], fits: bool) -> None:
    """Refuse names of values that nothing in a run logs; certain only if all callbacks say what they log.

    Args:
        trainer: with its callbacks.
        module: not yet configured.
        optimized: what `optimized_metric` names.
        fits: whether it is a training, in which callbacks monitor values.

    Raises:
        ValueError: nothing logs such a value; says which setting names it, and what is alike.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    patterns = [*logged_by(module), *(pattern for each in callbacks for pattern in logged_by(each))]
    wanted = [("optimized_metric", key) for key in optimized]
    if fits:
        monitors = [(type(each).__name__, getattr(each, "monitor", None)) for each in callbacks]
        wanted += [(f"the monitor of {name}", key) for name, key in monitors if key is not None]
    for setting, key in wanted:
        if not any(fnmatchcase(key, pattern) for pattern in patterns):
            known = [pattern for pattern in patterns if "*" not in pattern]
            raise ValueError(f"{setting} names {key!r}, which nothing in this run logs: {alike(key, known)}")


def logged_by(part: Callback | LightningModule) -> Sequence[str]:
    """Return patterns of the keys that a part of a run logs: those in `logs` of its class, else any key.

    Example:
        >>> logged_by(Callback()), logged_by(type("Mine", (Callback,), {"__module__": "mine"})())
        (('epoch', 'step', 'lr-*'), ('*',))
    """
    unsaid = LIGHTNING if type(part).__module__.startswith(("lightning.", "lightning_sae.")) else ("*",)
    said: Sequence[str] = vars(type(part)).get("logs", unsaid)
    return said


def alike(key: str, known: Iterable[str]) -> str:
    """Return the advice to a user who has misspelt the key of a logged value.

    Example:
        >>> alike("val/fvv", ["val/fvu", "train/loss"]), alike("x", ["val/fvu"])
        ('did you mean val/fvu?', 'there are val/fvu')
    """
    known = list(known)
    close = get_close_matches(key, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
