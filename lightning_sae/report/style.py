"""The style and the script of a page, from the files of its package."""

from collections.abc import Sequence
from importlib.resources import files


def style_of(*packages: str) -> str:
    """Return the style of a page that moves: `base.css` and `page.css` of this room, then those of packages.

    Args:
        packages: their folders `templates` each have a `style.css`.
    """
    shared = files(__package__) / "templates"
    own = [files(package) / "templates" / "style.css" for package in packages]
    sheets = (shared / "base.css", shared / "page.css", *own)
    return "\n" + "".join(sheet.read_text("utf-8") for sheet in sheets)


def script_of(package: str, names: Sequence[str]) -> str:
    """Return files of a package's folder `scripts`, one behind the other: together they are one module.

    Args:
        package: such as `lightning_sae.compare`.
        names: of the files, in this order.
    """
    folder = files(package) / "scripts"
    return "\n" + "\n".join((folder / f"{name}.js").read_text("utf-8") for name in names)
