"""Texts of users on terminals and in logs: what would steer a terminal is shown, and not obeyed."""

import re

from rich import markup

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of what follows, and halves of a character."""


def visible(text: str, keep: str = "") -> str:
    r"""A text whose control characters are written out, as Python writes them.

    Args:
        text: of a user, such as a class name, a prompt, the name of a file.
        keep: characters that stay, such as the line feeds of a message.

    Example:
        >>> print(visible("cat\x1b[2J\n\u202e"), visible("a\nb\t", keep="\n"))
        cat\x1b[2J\n\u202e a
        b\t
    """
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def escape(text: str) -> str:
    r"""A text of a user for rich: `visible`, and no markup.

    Example:
        >>> print(escape("[red]cat\x07"))
        \[red]cat\x07
    """
    return markup.escape(visible(text))


def _written(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
