"""TAB in a real shell: the program's own script makes words whole."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="no terminals here")
PROGRAM = """#!/bin/sh
case "$_LIGHTNING_SAE_COMPLETE$1" in
  complete_*|--show-completion) exec {python} -m lightning_sae "$@" ;;
  *) printf '%s|' "$@" >> typed; echo >> typed ;;
esac
"""
"""The program, which notes what was typed instead of doing it."""
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], "lightning-sae --show-completion > it; . ./it"),
    "zsh": (
        ["-f", "-i"],
        "autoload -U compinit; compinit -u -D; lightning-sae --show-completion > it; . ./it",
    ),
}
TYPED = {
    "aud\tRUN": ["audit", "RUN"],
    "fit\tRUN": ["fit-probe", "RUN"],
    "sae con\tRUN": ["sae", "convert", "RUN"],
    "audit RUN --fail\thigh": ["audit", "RUN", "--fail-on", "high"],
    "audit RUN --fail-on me\t": ["audit", "RUN", "--fail-on", "medium"],
    "audit RUN --output co\t": ["audit", "RUN", "--output", "cosine"],
    "correct RUN --way sh\t": ["correct", "RUN", "--way", "shift"],
    "sae convert a b --to sael\t": ["sae", "convert", "a", "b", "--to", "saelens"],
    "explain RUN --image one\t": ["explain", "RUN", "--image", "one_star.png"],
}
"""Words with a TAB, and those that the program gets."""


def typed_into(shell, lines, folder):
    """The words of each call of the program, when lines are typed into a shell."""
    arguments, ready = SHELLS[shell]
    ours, theirs = pty.openpty()
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [shutil.which(shell), *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path, "TERM": "dumb", "SHELL": shutil.which(shell)},
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, "\n".join([ready, *lines, "exit", ""]).encode())
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while some := os.read(ours, 1024):
            shown += some
    os.close(ours)
    process.wait()
    assert (folder / "typed").exists(), shown.decode()
    return [line.split("|")[:-1] for line in (folder / "typed").read_text().splitlines()]


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f"there is no {shell}"))
        for shell in SHELLS
    ],
)
def test_a_tab(shell, tmp_path):
    (tmp_path / "lightning-sae").write_text(PROGRAM.format(python=sys.executable))
    (tmp_path / "lightning-sae").chmod(0o755)
    (tmp_path / "one_star.png").touch()
    found = typed_into(shell, [f"lightning-sae {words}" for words in TYPED], tmp_path)
    assert found == list(TYPED.values())
