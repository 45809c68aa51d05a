"""Progress of long work: a bar on a terminal, a plain line per minute in a log file."""

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
"""Environment variable with the name of a job that runs beside others; the job's lines begin with it."""
EVERY = 60.0  # seconds between two lines


def shows_bars(stderr: bool = False) -> bool:
    """Return whether a bar can be drawn: on a terminal or in a notebook, with one job at a time.

    Args:
        stderr: asks about the standard error stream instead of the output.
    """
    console = Console(stderr=stderr)
    alone = not os.environ.get(JOB)
    return alone and (console.is_jupyter or (console.file.isatty() and not console.is_dumb_terminal))


class ProgressLines:
    """Plain lines that say how far a work is, how fast it goes, and how long it will still take.

    Args:
        title: what is done.
        total: how many units there are; infinite where nobody knows.
        unit: what is counted; "" for things without a name.
        done: number of units that were done before.
        stderr: writes to the standard error stream instead of the output.
        clock: function that returns the time in seconds.

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
        """Note how many units are done, and print a line if a minute has passed since the last one.

        Args:
            done: number of units that are done, of the total.
            note: function that returns further text for the line; it is called only if a line is printed.
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
        """Print a last line with the number of units, the time and the speed.

        Args:
            always: prints the line also if no other line was printed before.
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
    """Show how far a work of `total` units is, and give the function that advances it.

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
    """Yield values and show the progress meanwhile; quick work leaves no trace.

    Args:
        values: a collection with a length, or any values together with their `total`.
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
