"""What SLURM sends before a job has to go: SIGUSR1 or SIGUSR2."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class StopSignal:
    """Notes that a signal came, until the training is at a place where it can stop.

    Attributes:
        received: the number of the signal, 0 before one came.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def watch(self) -> None:
        """Take the place of the handlers, such as that of submitit, which requeues the job at once."""
        self.received = 0
        if threading.current_thread() is threading.main_thread():  # elsewhere Python forbids it
            self._previous = {number: _foreign(signal.signal(number, self)) for number in SIGNALS}

    def release(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def hand_on(self, number: int) -> None:
        """Call the handler that was there before, where there was one."""
        handler = self._previous.get(number)
        self.release()
        if callable(handler):
            handler(number, None)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._previous:
            self.received = number
        else:  # after an exception Lightning puts this handler back
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _foreign(handler: Any) -> Any:
    """Return a handler, or the default for one of ours that is left from an earlier training."""
    return signal.SIG_DFL if isinstance(handler, StopSignal) else handler
