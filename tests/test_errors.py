"""How programs end: Ctrl-C is an interrupt, whatever comes of it in a library."""

import os
import signal
from contextlib import suppress

import pytest

from lightning_sae.errors import ctrl_c_ends, one_line_errors


def ctrl_c():
    """Press it, and wait until it comes, if it comes."""
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass


def dropped():
    """Do what code in C may: lose the exception of Ctrl-C, and raise one of its own."""
    with suppress(KeyboardInterrupt):
        ctrl_c()
    raise ValueError("Invalid affine transformation matrix")


def test_an_error_that_ctrl_c_became_ends_as_an_interrupt():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stop, one_line_errors(), ctrl_c_ends():
        dropped()
    assert stop.value.code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_itself_and_other_errors_pass():
    with pytest.raises(KeyboardInterrupt), ctrl_c_ends():
        ctrl_c()
    with pytest.raises(ZeroDivisionError), ctrl_c_ends():
        _ = 1 / 0


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(ValueError, match="affine"), ctrl_c_ends():
            dropped()
    finally:
        signal.signal(signal.SIGINT, before)
