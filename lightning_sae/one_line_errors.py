"""What train.py and the commands have in common: an error that the user can mend ends in one message."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_sae.control_characters import visible
from lightning_sae.gpu_memory import is_out_of_memory, too_small

MENDABLE = (ValueError, OSError, InstantiationException, MisconfigurationException)


@contextmanager
def one_line_errors(*others: type[Exception], on_cpu: str = "--device cpu") -> Iterator[None]:
    """Ends the program with type and message of what the user can mend, the cause where Hydra wraps one.

    That is a `ValueError`, an `OSError`, what Hydra and Lightning refuse, and a GPU with too little memory,
    for which the settings that help are listed. A job of a multirun ends in an exception with that message,
    and the others go on. HYDRA_FULL_ERROR=1 in the environment shows where it came from instead.

    Args:
        others: further errors that end so.
        on_cpu: what the user says to have no GPU used.

    Raises:
        SystemExit: with the message, exit status 1.

    Example:
        >>> with one_line_errors():
        ...     raise ValueError("k must be at least 1, got 0")
        Traceback (most recent call last):
        SystemExit:
        ValueError: k must be at least 1, got 0
        (HYDRA_FULL_ERROR=1 shows where.)
    """
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if is_out_of_memory(cause):
            cause = torch.OutOfMemoryError(too_small(cause, on_cpu)).with_traceback(cause.__traceback__)
        elif not isinstance(error, (*MENDABLE, *others)):
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise cause from None
        said = visible(f"{type(cause).__name__}: {cause}", keep="\n")
        sys.exit(f"\n{said}\n(HYDRA_FULL_ERROR=1 shows where.)")


def _cause(error: BaseException) -> BaseException:
    """What went wrong below the frames that `instantiate` wraps around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error
