"""Numbers of users: whole where they count something, and in their range."""

import math
from numbers import Integral, Real
from typing import Any


def check_counts(least: int, **values: Any) -> None:
    """Refuse what counts nothing.

    Args:
        least: the smallest count.
        values: by their names; `None` is the choice of whoever takes it.

    Raises:
        ValueError: a value is not whole, or smaller.

    Example:
        >>> check_counts(1, batch_size=64, tokens_per_image=None)
        >>> check_counts(1, batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size must be a whole number of at least 1, got 0
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_numbers(**values: Any) -> None:
    """Refuse what is no number.

    Args:
        values: by their names.

    Raises:
        ValueError: a value is of another kind, or NaN.

    Example:
        >>> check_numbers(max_leaks="few")
        Traceback (most recent call last):
        ValueError: max_leaks must be a number, got 'few'
    """
    for name, value in values.items():
        if not isinstance(value, Real) or math.isnan(value):
            raise ValueError(f"{name} must be a number, got {value!r}")


def check_positive(**values: Any) -> None:
    """Refuse what is no finite number above 0.

    Args:
        values: by their names; `None` is the choice of whoever takes it.

    Raises:
        ValueError: a value is not.

    Example:
        >>> check_positive(lr=math.nan)
        Traceback (most recent call last):
        ValueError: lr must be a finite number above 0, got nan
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, Real) or not 0 < float(value) < math.inf):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
