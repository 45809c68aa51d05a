"""The common way in which train.py and the commands end.

An error that the user can mend ends in one message, and a signal in the exit status that a shell gives it.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, NoReturn

from lightning_sae.files import ADVICE, FULL, NoRoomError, gigabytes
from lightning_sae.trust.causes import INSTANTIATION, cause_of, is_a
from lightning_sae.trust.control_characters import visible

MENDABLE = (INSTANTIATION, "lightning.fabric.utilities.exceptions.MisconfigurationException")
"""Errors of libraries by name, so that a command that needs none of the libraries does not import them."""
SIGTERM = "lightning.pytorch.utilities.exceptions.SIGTERMException"


SECONDS = 10.0
"""Time after Ctrl-C in which another error counts as a result of it."""


@contextmanager
def one_line_errors(*others: type[Exception], on_cpu: str = "--device cpu") -> Iterator[None]:
    """End the program with type and message of an error that the user can mend, without Hydra's wrapping.

    Such an error is a `ValueError`, an `OSError`, a refusal of Hydra or Lightning, or a GPU with too little
    memory, for which the settings that help are listed. A job of a multirun ends in an exception with that
    message, and the other jobs go on. HYDRA_FULL_ERROR=1 in the environment shows where the error came from
    instead. Ctrl-C ends with status 130 and SIGTERM with 143, so that `train && audit` stops there.

    Args:
        others: further errors that end in this way.
        on_cpu: argument by which the user turns off the use of a GPU.

    Raises:
        SystemExit: the error's message with exit status 1, or the exit status of a signal.

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
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except SystemExit as stop:
        if number := _signal_behind(stop):
            sys.exit(128 + number)
        raise
    except Exception as error:
        cause = _named_if_full(cause_of(error))
        if small := _gpu_too_small(cause, on_cpu):
            cause = small
        elif not (isinstance(error, (ValueError, OSError, *others)) or _of_a_library(error)):
            raise
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        if (job := _job()) and job.mode.name == "MULTIRUN":
            raise cause from None
        said = visible(f"{type(cause).__name__}: {cause}", keep="\n")
        sys.exit(f"\n{said}\n(HYDRA_FULL_ERROR=1 shows where.)")


def _of_a_library(error: BaseException) -> bool:
    """Return whether Hydra, Lightning or a target that `trust.targets` builds refuses something."""
    return is_a(error, *MENDABLE) or is_a(error.__context__, INSTANTIATION)


def _job() -> Any:
    """Return Hydra's settings of the running job, `None` outside of one."""
    hydra = sys.modules.get("hydra.core.hydra_config")
    return hydra.HydraConfig.get() if hydra and hydra.HydraConfig.initialized() else None


def _gpu_too_small(error: BaseException, on_cpu: str) -> BaseException | None:
    """Return an error that explains too little GPU memory in plain words; `None` for another error."""
    if "torch" not in sys.modules:
        return None
    import torch

    from lightning_sae.devices.gpu_memory import is_out_of_memory, too_small

    if not is_out_of_memory(error):
        return None
    return torch.OutOfMemoryError(too_small(error, on_cpu)).with_traceback(error.__traceback__)


def _named_if_full(error: BaseException) -> BaseException:
    """Return the error of a full disk with the free space in its message; other errors stay as they are."""
    if isinstance(error, NoRoomError) or not isinstance(error, OSError) or error.errno not in FULL:
        return error
    folder = job.runtime.output_dir if (job := _job()) else Path.cwd()
    places = {Path(error.filename).parent} if error.filename else {Path(folder), Path(tempfile.gettempdir())}
    free = ", ".join(f"{gigabytes(shutil.disk_usage(place).free)} in {place}" for place in sorted(places))
    return OSError(error.errno, f"a disk is full; free are {free}. {ADVICE}").with_traceback(
        error.__traceback__
    )


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into an exception within the block, so that what is claimed there is given back.

    Raises:
        SystemExit: status 143.
    """
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """End the block as an interrupt on Ctrl-C, whatever error the library that is interrupted makes of it.

    Code in C may drop the exception and raise one of its own: in the middle of a drawing Matplotlib says
    *Invalid affine transformation matrix*.

    Raises:
        SystemExit: status 130, in place of another error within ten seconds of Ctrl-C; that error is printed.
    """
    pressed, before = list[float](), signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(before):
        yield  # another thread has no signals; a program behind nohup ignores this one
        return

    def note(number: int, frame: Any) -> None:
        pressed.append(time.monotonic())
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if not pressed or time.monotonic() - pressed[-1] > SECONDS:
            raise
        print(visible(f"{type(error).__name__}: {error}"), file=sys.stderr)
        try:
            raise KeyboardInterrupt from error
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def _raise(number: int, frame: Any) -> NoReturn:
    sys.exit(128 + number)


def _signal_behind(stop: SystemExit) -> int:
    """Return the signal that Lightning turned into this exit; 0 for any other exit."""
    if is_a(stop, SIGTERM):
        return signal.SIGTERM
    return signal.SIGINT if isinstance(stop.__context__, KeyboardInterrupt) else 0
