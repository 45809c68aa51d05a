"""Paths as users write them."""

from pathlib import Path


def user_path(path: str | Path) -> Path:
    """A path that a user gives: `~` is the home folder, also where no shell has seen it, as in a config.

    Example:
        >>> user_path("~/images") == Path.home() / "images", user_path("images").name
        (True, 'images')
    """
    return Path(path).expanduser()
