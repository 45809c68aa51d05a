"""The help of every command, as the program prints it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

COLUMNS = "80"  # what a page shows without scrolling
MODULES = ("explain", "audit", "correct", "compare", "fit_probe", "data", "sae")


def helps() -> Iterator[tuple[str, str]]:
    """Yield how each command is called, and its help."""
    if find_spec("lightning_sae.program") is None:  # before there is one program
        yield "python train.py", _printed("train.py")
        for module in MODULES:
            yield f"python -m lightning_sae.{module}", _printed("-m", f"lightning_sae.{module}")
        return
    for words in _commands():
        run = "import sys; from lightning_sae.program import main; main(sys.argv[1:])"
        yield " ".join(["lightning-sae", *words]), _printed("-c", run, *words)


def _commands() -> Iterator[tuple[str, ...]]:
    from lightning_sae.program import app
    from typer.main import get_command

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
