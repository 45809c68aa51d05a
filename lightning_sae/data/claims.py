"""Who is at work on what: leases in files, seen by every process and machine, which end with their owner."""

import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from filelock import SoftFileLease, Timeout

from lightning_sae.files import room_for
from lightning_sae.trust.control_characters import visible

LEASE_SECONDS = 60.0
"""How long an owner must have been silent before it counts as dead. A process of this machine that has
ended counts as dead at once."""

POLL_SECONDS = 1.0


class Lease(SoftFileLease):
    """A lock that its holder keeps alive; it works on network file systems, where `flock` may not.

    Args:
        path: of the lock.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, lease_duration=LEASE_SECONDS, thread_local=False)
        self._unsigned: tuple[int, float] | None = None  # inode of an empty lock file, when it was first seen

    def mark_unsigned(self) -> None:
        """Write into a lock file that has been empty for the length of a lease, so that it counts as damaged.

        The length is measured by the age of the file, or since it was first seen here.

        A process that is killed between making its lock file and writing its name into it leaves the file
        empty, and filelock waits for an empty file for ever. It takes over a damaged one. An owner who is
        alive after all writes its name over what is written here.
        """
        with suppress(FileNotFoundError, PermissionError):  # the lock of another user is waited for
            marker, now = Path(self.lock_file).stat(), time.monotonic()
            if marker.st_size > 0:
                self._unsigned = None
            elif time.time() - marker.st_mtime >= LEASE_SECONDS:
                self._sign()
            elif self._unsigned is None or self._unsigned[0] != marker.st_ino:
                self._unsigned = marker.st_ino, now
            elif now - self._unsigned[1] >= LEASE_SECONDS:
                self._sign()

    def _sign(self) -> None:
        file = os.open(self.lock_file, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(file).st_size == 0:
                os.write(file, b"unsigned")
        finally:
            os.close(file)


def lease(path: Path) -> Lease:
    """Return the lock at a path, whose folder is made."""
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return Lease(path)


def acquired(lock: Lease) -> bool:
    """Take a lock if nobody alive has it, and return whether it was taken."""
    try:
        with room_for(Path(lock.lock_file)):
            lock.acquire(blocking=False)
    except Timeout:
        lock.mark_unsigned()
        return False
    return True


def owner(lock: Lease) -> str:
    """Return the name of a lock's owner, for messages."""
    record = lock.owner
    return f"process {record.pid} on {record.hostname.partition('?')[0]}" if record else "another process"


class Waiting:
    """Says what is waited for, once for each owner."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, set[str]()

    def on(self, owners: Iterable[str]) -> None:
        """Wait a moment."""
        if new := {*owners} - self._said:
            print(visible(f"{self._what}: waiting for {', '.join(sorted(new))}"), flush=True)
            self._said |= new
        time.sleep(POLL_SECONDS)


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Let one process at a time into the block; the others wait, and say for whom."""
    lock, waiting = lease(path), Waiting(what)
    while not acquired(lock):
        waiting.on([owner(lock)])
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(path: Path, what: str, advice: str) -> Iterator[None]:
    """Keep others out for as long as the block runs; whoever comes second is refused.

    An owner on another machine is watched for the length of a lease, so that a dead one does not block.

    Args:
        path: of the lock.
        what: is claimed, for messages.
        advice: what the second one may do instead.

    Raises:
        ValueError: somebody alive has it; names the process.
    """
    lock, waiting = lease(path), Waiting(what)
    end = time.monotonic() + LEASE_SECONDS + 10 * POLL_SECONDS
    while not acquired(lock):
        if _lives_here(lock) or time.monotonic() > end:
            raise ValueError(f"{what} is in use by {owner(lock)}: {advice}")
        waiting.on([owner(lock)])
    try:
        yield
    finally:
        lock.release()


def _lives_here(lock: Lease) -> bool:
    """Return whether the owner is a process of this machine; a dead one would have lost the lock."""
    record = lock.owner
    return record is not None and record.hostname.partition("?")[0] == socket.gethostname()


class Claims:
    """The shards of a store that processes are at work on, each claimed by one.

    Processes that cut the store into shards of another size exclude each other, since their files have the
    same names: the larger size goes first, once the smaller shards that are in work are written.

    Args:
        folder: of the claims.
        shard_images: images per shard.

    Attributes:
        folder: as given.
        shard_images: as given.
        ended: set when no shard is wanted any more, so that a thread that waits for one ends.
    """

    def __init__(self, folder: Path, shard_images: int) -> None:
        self.folder, self.shard_images, self.ended = folder, shard_images, Event()
        self._leases: dict[Path, Lease] = {}  # kept: how long an owner is silent is seen by looking twice
        self._held: dict[int, Lease] = {}

    def take(self, shard: int) -> bool:
        """Claim a shard, unless somebody has it or is at work on larger ones; wait for smaller ones.

        Each process looks for the others after it has claimed, so that one of two always sees the other.
        """
        lock = self._lease(self.folder / str(self.shard_images) / f"{shard:06d}.lock")
        if not acquired(lock):
            return False
        self._held[shard] = lock
        free = False
        try:
            free = self._excludes_other_sizes()
        finally:
            if not free:
                self.release(shard)
        return free

    def _excludes_other_sizes(self) -> bool:
        """Wait for smaller shards in work; return False where larger ones are, or the wait was ended."""
        if self._taken(range(self.shard_images + 1, sys.maxsize)):
            return False
        waiting = Waiting(str(self.folder.parent))
        while others := self._taken(range(self.shard_images)):
            if self.ended.is_set():
                return False
            waiting.on(others.values())
        return True

    def holds(self, shard: int) -> bool:
        """Return whether the claim of a shard still stands.

        A process that was stopped for longer than a lease has lost it to another one.
        """
        lock = self._held[shard]
        return (record := lock.owner) is not None and record.token == lock.token

    def release(self, shard: int) -> None:
        """Give a shard back."""
        lock = self._held.pop(shard)
        lock.release()
        self._leases.pop(Path(lock.lock_file), None)

    def release_all(self) -> None:
        """Give back what is still held, as after an error."""
        for shard in list(self._held):
            self.release(shard)

    def wait(self, what: str) -> None:
        """Wait until one of the shards that others have is free."""
        before, waiting = self._taken(), Waiting(what)
        while before and before.keys() <= (now := self._taken()).keys():
            waiting.on(now.values())

    def tidy(self) -> None:
        """Delete the claims of the dead."""
        self._taken()

    def _taken(self, sizes: range = range(sys.maxsize)) -> dict[Path, str]:
        """Return the locks that others hold on shards with so many images, and the names of their owners."""
        own = {Path(lock.lock_file) for lock in list(self._held.values())}  # a thread may release
        taken = {}
        for path in {*self.folder.glob("*/*.lock")} - own:
            if int(path.parent.name) not in sizes:
                continue
            lock = self._lease(path)
            if acquired(lock):
                lock.release()
            else:
                taken[path] = owner(lock)
        return taken

    def _lease(self, path: Path) -> Lease:
        if path not in self._leases:
            self._leases[path] = lease(path)
        return self._leases[path]
