"""Watching the images of a folder, of a list, or of names as they come in."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lightning_sae.monitoring.alarms import Alarm
from lightning_sae.monitoring.monitor import Monitor
from lightning_sae.monitoring.stream import (
    NamedFiles,
    digest_names,
    listed_files,
    named_lines,
    prepared_batches,
)

SAVED_EVERY = 1000
"""Images after which the state is written."""


class Watched(NamedTuple):
    """A batch of images that has been watched.

    Attributes:
        taken: entries of the list, from its first on.
        alarms: that it raised.
        faults: why images of it cannot be read.
    """

    taken: int
    alarms: list[Alarm]
    faults: list[str]


def watch(
    monitor: Monitor,
    source: str,
    write: Callable[[], object],
    say: Callable[[str], object] = print,
    background: str = "white",
    lines: Iterable[str] | None = None,
) -> None:
    """Watch all images of a source.

    Watching a folder or a list that has been watched in part goes on where it stopped, and with what is new
    if it has grown at its end.

    Args:
        monitor: opened.
        source: a folder, a text file with a path a line, or `-`: paths from the standard input.
        write: writes the state and what there is to say, every so many images and in the end.
        say: tells alarms and images that cannot be read.
        background: what transparent pictures lie on.
        lines: in the place of the standard input.

    Raises:
        FileNotFoundError: there is no such folder, list, or file of it.
        ValueError: it names no images.
    """
    saved = monitor.seen
    batches = (
        _incoming(monitor, lines or sys.stdin, background)
        if source == "-"
        else _listed(monitor, Path(source), background, say)
    )
    try:
        for batch in batches:
            for fault in batch.faults:
                say(f"cannot be read, left out: {fault}")
            for alarm in batch.alarms:
                say(f"ALARM after image {alarm.raised:,}: {alarm.sentence}")
            if batch.alarms or monitor.seen - saved >= SAVED_EVERY:
                write()
                saved = monitor.seen
    finally:
        write()


def _listed(
    monitor: Monitor, source: Path, background: str, say: Callable[[str], object]
) -> Iterator[Watched]:
    paths, state = listed_files(source), monitor.state
    count, names = state.taken
    known = 0 < count <= len(paths) and digest_names(paths[:count]) == names
    first = taken = count if known else 0
    if known:
        say(f"{first:,} of {len(paths):,} images of {source} have been watched before")
    files = NamedFiles(paths, background)
    for batch in prepared_batches(files, monitor.looking.clip, "watching", first):
        alarms = monitor.update_prepared(batch.pixels)
        taken += len(batch.pixels) + len(batch.faults)
        state.bad += len(batch.faults)
        state.taken = taken, digest_names(paths[:taken])
        yield Watched(taken, alarms, batch.faults)


def _incoming(monitor: Monitor, lines: Iterable[str], background: str) -> Iterator[Watched]:
    taken = 0
    for paths in named_lines(lines):
        files = NamedFiles(paths, background)
        for batch in prepared_batches(files, monitor.looking.clip, "watching", workers=0):
            alarms = monitor.update_prepared(batch.pixels)
            taken += len(paths)
            monitor.state.bad += len(batch.faults)
            yield Watched(taken, alarms, batch.faults)
