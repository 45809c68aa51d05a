"""Real processes: as many as a test asks for, each started as a user's launcher would."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Start = Callable[..., list["subprocess.CompletedProcess[str]"]]


def environment(**more: str) -> dict[str, str]:
    """One thread per process, and this clone before an installed one."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", **more}


def finish(
    processes: Sequence["subprocess.Popen[str]"], timeout: float
) -> list["subprocess.CompletedProcess[str]"]:
    """Waits for all; kills all if one takes too long."""
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, out, err)
        for process, (out, err) in zip(processes, said, strict=True)
    ]


@pytest.fixture
def start() -> Start:
    """Runs `python COMMAND` as `len(commands)` ranks of one group, each command its rank's."""

    def start(*commands: Sequence[str], timeout: float = 250) -> list["subprocess.CompletedProcess[str]"]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(len(commands))}
        processes = [
            subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment(**group, NODE_RANK="0", LOCAL_RANK=str(rank))
                if len(commands) > 1
                else environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank, command in enumerate(commands)
        ]
        return finish(processes, timeout)

    return start
