"""Texts of users on terminals and in logs: characters that steer a terminal or are unseen are written out."""

import re
import warnings

from rich import markup

_EMOJI = r"\u2100-\u2bff\U0001f000-\U0001faff"
INVISIBLE = re.compile(
    r"[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    rf"|(?<![{_EMOJI}])\ufe0f|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])"
)
"""Unicode's invisible Default_Ignorable_Code_Point, without the characters that join and colour emoji."""

_STEERING = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|{INVISIBLE.pattern}")
"""Control characters, characters that are unseen or turn the text's direction, and surrogates."""


def visible(text: str, keep: str = "") -> str:
    r"""Return a text whose control and invisible characters are written out, as Python writes them.

    Args:
        text: text of a user, such as a class name, a prompt, the name of a file.
        keep: characters that stay, such as the line feeds of a message.

    Example:
        >>> print(visible("cat\x1b[2J\n\u200b"), visible("a\nb\t", keep="\n"))
        cat\x1b[2J\n\u200b a
        b\t
    """
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def escape(text: str) -> str:
    r"""Return a text of a user for rich: `visible`, and no markup.

    Example:
        >>> print(escape("[red]cat\x07"))
        \[red]cat\x07
    """
    return markup.escape(visible(text))


def warn(text: str, stacklevel: int = 1) -> None:
    """Warn with a user's text, made `visible` except for line feeds; `stacklevel` as in `warnings.warn`."""
    warnings.warn(visible(text, keep="\n"), stacklevel=stacklevel + 1)


def _written(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
