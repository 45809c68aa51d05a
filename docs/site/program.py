"""The help of every command, as the program prints it."""

import os
import subprocess
import sys
from collections.abc import Iterator

COLUMNS = "80"  # what a page shows without scrolling


def helps() -> Iterator[tuple[str, str]]:
    """Yield how each command is called, and its help."""
    for words in _commands():
        run = "import sys; from lightning_sae.program import main; main(sys.argv[1:])"
        yield " ".join(["lightning-sae", *words]), _printed("-c", run, *words)


def _commands() -> Iterator[tuple[str, ...]]:
    from typer.main import get_command

    from lightning_sae.program import app

    yield ()
    for name, command in get_command(app).commands.items():
        if not command.hidden:
            inner = getattr(command, "commands", None)
            yield from [(name,)] if inner is None else [(name, word) for word in inner]


def _printed(*words: str) -> str:
    env = os.environ | {"COLUMNS": COLUMNS, "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, check=True, env=env
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
