"""Numbers as people read them."""

import math


def percent(share: float | None, digits: int = 0) -> str:
    """A share; "" where it is unknown.

    Example:
        >>> percent(0.938), percent(0.938, digits=1), percent(float("nan"))
        ('94 %', '93.8 %', '')
    """
    if share is None or math.isnan(share):
        return ""
    return f"{share:.{digits}%}".replace("%", " %").replace("-", "−")


def compact(value: float | None, digits: int = 3) -> str:
    """A number with at most so many significant digits; "" where it is unknown.

    Example:
        >>> compact(2.96335), compact(-0.78318), compact(482.0), compact(0.00099900), compact(None)
        ('2.96', '−0.783', '482', '0.000999', '')
    """
    if value is None or math.isnan(value):
        return ""
    return f"{value:.{digits}g}".replace("-", "−")
