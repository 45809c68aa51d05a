"""The content security policy of a page: the style and the script that it has, and nothing else."""

import base64
import hashlib


def policy(style: str, script: str, connect: str = "") -> str:
    """Return the policy of a page: this style, this script, pictures inside, nothing else.

    `trusted-types 'none'` also forbids the script to make HTML of texts.

    Args:
        style: text between the style's tags, letter by letter.
        script: text between the script's tags, letter by letter.
        connect: source that the page may ask, such as `'self'`; "" for nothing.

    Example:
        >>> policy("", "").split("; ")[0]
        "default-src 'none'"
    """
    rules = [
        "default-src 'none'",
        f"script-src '{_digest(script)}'",
        f"style-src '{_digest(style)}'",
        "img-src data:",
        *([f"connect-src {connect}"] if connect else []),
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return "; ".join(rules)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
