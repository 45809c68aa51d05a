"""Progress of what takes long: a bar on a terminal, in a log file a plain line a minute."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lightning_sae.trust.control_characters import escape, visible

T = TypeVar("T")

JOB = "LIGHTNING_SAE_JOB"
"""Environment variable with the name of a job that runs beside others: its lines begin with it."""
EVERY = 60.0  # seconds between two lines


def shows_bars(stderr: bool = False) -> bool:
    """Return True where a bar can be drawn: on a terminal or in a notebook, of one job at a time.

    Args:
        stderr: asks about the standard error stream instead of the output.
    """
    console = Console(stderr=stderr)
    alone = not os.environ.get(JOB)
    return alone and (console.is_jupyter or (console.file.isatty() and not console.is_dumb_terminal))


class ProgressLines:
    """Says in plain lines how far something is, how fast, and how long still.

    Args:
        title: what is done.
        total: how many units there are; infinite where nobody knows.
        unit: what is counted; "" for things without a name.
        done: units that were there before.
        stderr: writes to the standard error stream instead of the output.
        clock: gives seconds.

    Example:
        >>> seconds = iter([0.0, 30.0, 60.0])
        >>> lines = ProgressLines("capturing", 1000, "images", clock=lambda: next(seconds))
        >>> lines.move(200)
        >>> lines.move(400)
        capturing: 400 of 1,000 images, 6.7 images/s, 90 s left
    """

    def __init__(
        self,
        title: str,
        total: float,
        unit: str = "",
        done: float = 0,
        stderr: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        job = os.environ.get(JOB)
        self._title = f"{job}: {title}" if job else title
        self._total, self._unit, self._stderr, self._clock = total, unit, stderr, clock
        self._first = self._done = done
        self._began = self._said = clock()

    def advance(self, n: float = 1) -> None:
        """Count further units."""
        self.move(self._done + n)

    def move(self, done: float, note: Callable[[], str] | None = None) -> None:
        """Take over how many units are done, and say so if a minute has passed since the last line.

        Args:
            done: of the total.
            note: gives what else stands in the line; asked for only if there is one.
        """
        self._done, now = done, self._clock()
        if now - self._said < EVERY:
            return
        self._said, rate = now, self._rate(now)
        total = "" if math.isinf(self._total) else f" of {self._total:,.0f}"
        parts = [self._counted(f"{done:,.0f}{total}"), self._speed(rate)]
        if rate > 0 and not math.isinf(self._total):
            parts.append(f"{_duration(max(self._total - done, 0) / rate)} left")
        if note is not None:
            parts.append(note())
        self._say(parts)

    def finish(self, always: bool = True) -> None:
        """Say what it was in all.

        Args:
            always: also if it took less than a minute.
        """
        now = self._clock()
        if always or self._said > self._began:
            took = f"{self._counted(f'{self._done:,.0f}')} in {_duration(now - self._began)}"
            self._say([took, self._speed(self._rate(now))])

    def _rate(self, now: float) -> float:
        return (self._done - self._first) / ((now - self._began) or 1)

    def _counted(self, number: str) -> str:
        return f"{number} {self._unit}".strip()

    def _speed(self, rate: float) -> str:
        return f"{self._counted(f'{rate:,.0f}' if rate >= 10 else f'{rate:.2g}')}/s"

    def _say(self, parts: Iterable[str]) -> None:
        line = f"{self._title}: {', '.join(filter(None, parts))}"
        print(visible(line), file=sys.stderr if self._stderr else sys.stdout, flush=True)


def _duration(seconds: float) -> str:
    """Return a time in two units at most.

    Example:
        >>> _duration(0.42), _duration(42.3), _duration(185), _duration(8000)
        ('0.4 s', '42 s', '3 min', '2 h 13 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class _Speed(ProgressColumn):
    """Units per second since the start."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / (task.elapsed or 1):.0f} {self.unit}/s", style="progress.data.speed")


@contextmanager
def progress(
    title: str, total: float, unit: str = "", passing: bool = False, stderr: bool = False
) -> Iterator[Callable[[float], None]]:
    """Show how far a work of `total` units is, and give what advances it.

    Args:
        title: what is done.
        total: how many units there are.
        unit: what is counted.
        passing: leaves no trace: the bar vanishes in the end, and what took less than a minute has no line.
        stderr: writes to the standard error stream instead of the output.
    """
    if not shows_bars(stderr):
        lines = ProgressLines(title, total, unit, stderr=stderr)
        yield lines.advance
        lines.finish(always=not passing)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=stderr), transient=passing) as shown:
        task = shown.add_task(escape(title), total=total)
        yield lambda n: shown.advance(task, n)


def track(
    values: Iterable[T], title: str, total: int | None = None, unit: str = "", stderr: bool = False
) -> Iterator[T]:
    """Yield values, and show meanwhile how far that is; no trace is left of what was quick.

    Args:
        values: anything that can be counted, or any values beside their `total`.
        title: what is done.
        total: how many there are; `None`: as many as `len` says.
        unit: what is counted.
        stderr: writes to the standard error stream instead of the output.

    Example:
        >>> list(track([3, 1, 2], "reading words"))
        [3, 1, 2]
    """
    if total is None:
        total = len(values) if isinstance(values, Sized) else 0
    with progress(title, total, unit, passing=True, stderr=stderr) as advance:
        for value in values:
            yield value
            advance(1)
