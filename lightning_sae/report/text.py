"""Numbers as people read them, and texts that cannot disturb the text around them."""

import math

_MISLEADING = dict.fromkeys(
    [*range(9), *range(11, 32), 0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)
"""Control characters except tab and line feed, and characters that turn the direction of the text."""


def plain(text: str) -> str:
    r"""Return a text of a user for display, with control characters and direction marks replaced.

    Example:
        >>> plain("cat \u202e\x00").encode("ascii", "namereplace")
        b'cat \\N{REPLACEMENT CHARACTER}\\N{REPLACEMENT CHARACTER}'
    """
    return text.translate(_MISLEADING)


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share; "" where it is unknown.

    Example:
        >>> percent(0.938), percent(0.938, digits=1), percent(float("nan"))
        ('94 %', '93.8 %', '')
    """
    if share is None or math.isnan(share):
        return ""
    return f"{share:.{digits}%}".replace("%", " %").replace("-", "−")


def compact(value: float | None, digits: int = 3) -> str:
    """Return a number with at most `digits` significant digits; "" where it is unknown.

    Example:
        >>> compact(2.96335), compact(-0.78318), compact(482.0), compact(0.00099900), compact(None)
        ('2.96', '−0.783', '482', '0.000999', '')
    """
    if value is None or math.isnan(value):
        return ""
    return f"{value:.{digits}g}".replace("-", "−")
