"""Real processes, started as a user or a launcher would; none outlives the tests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[str]
Done = subprocess.CompletedProcess[str]
Spawn = Callable[..., Process]


@pytest.fixture(scope="session")
def spawn() -> Iterator[Spawn]:
    """Starts `python COMMAND` in a process group of its own, with one thread and this clone's code."""
    started: list[Process] = []

    def spawn(*command: str, **variables: str) -> Process:
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # a shell ignores it for what it starts in the background, and children would inherit that
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def ranks(spawn: Spawn) -> Callable[..., list[Done]]:
    """Runs commands as the ranks of one group, and waits for all."""

    def ranks(*commands: Sequence[str]) -> list[Done]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(len(commands))}
        group = {**group, "NODE_RANK": "0"} if len(commands) > 1 else {}
        processes = [
            spawn(*command, **group, **({"LOCAL_RANK": str(rank)} if group else {}))
            for rank, command in enumerate(commands)
        ]
        said = [process.communicate(timeout=850) for process in processes]
        return [
            subprocess.CompletedProcess(process.args, process.returncode, *pipes)
            for process, pipes in zip(processes, said, strict=True)
        ]

    return ranks
