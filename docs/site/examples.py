"""Docstrings as this library writes them, for mkdocstrings."""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Read `Example:` as the section of doctests that Google's style calls `Examples:`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section of one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
