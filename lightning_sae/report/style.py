"""The style of a page: what all pages share, then its own."""

from importlib.resources import files


def style_of(package: str) -> str:
    """Return the style of a page that moves: `base.css` and `page.css` of this room, then its own.

    Args:
        package: its folder `templates` has a `style.css`.
    """
    shared = files(__package__) / "templates"
    own = files(package) / "templates" / "style.css"
    sheets = (shared / "base.css", shared / "page.css", own)
    return "\n" + "".join(sheet.read_text("utf-8") for sheet in sheets)
