"""A part of a page that shows in a notebook, with a style that touches nothing around it."""

import re
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from lightning_sae.report.page import render

CLASS = "lightning-sae"
ROOTS = re.compile(r"(?<![\w.#-])(?::root|html|body)(?=\s*\{)")


def render_cell(package: str, template: str, context: dict[str, Any]) -> str:
    """Return HTML for the output of a cell; every text of the context is escaped.

    Args:
        package: package whose folder `templates` holds the template and, for a style of its own, `style.css`.
        template: name of the template's file.
        context: values of the names in the template.
    """
    own = files(package) / "templates" / "style.css"
    shared = files("lightning_sae.report") / "templates"
    pages = [shared / "base.css", shared / "page.css"]
    sheets = [*pages, *([own] if own.is_file() else []), shared / "cell.css"]
    style = within("\n".join(sheet.read_text("utf-8") for sheet in sheets))
    inner = render(package, context, template)
    return Markup('<div class="{}"><style>{}</style>{}</div>').format(CLASS, Markup(style), Markup(inner))


def within(style: str) -> str:
    r"""Return the style of a page for a cell: rules for the whole page hold within the cell alone.

    Example:
        >>> within("body { margin: 0 } p { margin: 0 }")
        '.lightning-sae {\n& { margin: 0 } p { margin: 0 }\n}'
    """
    return f".{CLASS} {{\n{ROOTS.sub('&', style)}\n}}"
