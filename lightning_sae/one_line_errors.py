"""What the commands have in common: an error that the user can mend ends in one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with type and message of a `ValueError`, an `OSError`, or the cause of one of Hydra's.

    HYDRA_FULL_ERROR=1 in the environment shows where it came from instead.

    Raises:
        SystemExit: with the message, exit status 1.

    Example:
        >>> with one_line_errors():
        ...     raise ValueError("k must be at least 1, got 0")
        Traceback (most recent call last):
        SystemExit: ValueError: k must be at least 1, got 0
    """
    try:
        yield
    except (ValueError, OSError, InstantiationException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        sys.exit(f"{type(cause).__name__}: {cause}")
