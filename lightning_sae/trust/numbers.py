"""Checks of users' numbers: counts must be whole, and all numbers must lie in their range."""

import math
from numbers import Integral, Real
from typing import Any


def check_counts(least: int, **values: Any) -> None:
    """Refuse values that are no whole numbers of at least a smallest count.

    Args:
        least: the smallest count.
        values: name -> value; `None` leaves the choice to the code that uses it.

    Raises:
        ValueError: a value is not whole, or smaller than the smallest count.

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
    """Refuse values that are no numbers.

    Args:
        values: name -> value.

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
    """Refuse values that are no finite numbers above 0.

    Args:
        values: name -> value; `None` leaves the choice to the code that uses it.

    Raises:
        ValueError: a value is no finite number above 0.

    Example:
        >>> check_positive(lr=math.nan)
        Traceback (most recent call last):
        ValueError: lr must be a finite number above 0, got nan
    """
    for name, value in values.items():
        if value is not None and (not isinstance(value, Real) or not 0 < float(value) < math.inf):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
