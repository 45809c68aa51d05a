"""The style and the script of a page, from the files of its package."""

from collections.abc import Sequence
from importlib.resources import files


def style_of(*packages: str) -> str:
    """Return the style of an interactive page: `base.css` and `page.css` from here, then that of packages.

    Args:
        packages: packages whose folders `templates` each have a `style.css`.
    """
    shared = files(__package__) / "templates"
    own = [files(package) / "templates" / "style.css" for package in packages]
    sheets = (shared / "base.css", shared / "page.css", *own)
    return "\n" + "".join(sheet.read_text("utf-8") for sheet in sheets)


def script_of(package: str, names: Sequence[str]) -> str:
    """Return the files of a package's folder `scripts`, joined in order into one module.

    Args:
        package: name of the package, such as `lightning_sae.compare`.
        names: names of the files, in this order.
    """
    folder = files(package) / "scripts"
    return "\n" + "\n".join((folder / f"{name}.js").read_text("utf-8") for name in names)
