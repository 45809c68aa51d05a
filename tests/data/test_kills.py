"""Thirty SIGKILLs at random moments of a capture: each resumes to the bytes of an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def kill(times):
    """Runs the benchmark in a process of its own, since it forks; what it prints."""
    command = [sys.executable, "benchmarks/kills_in_capture.py", "--short", "--kills", str(times)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_kill():
    assert "1 kills in " in kill(1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thirty_kills():
    assert "30 kills in " in kill(30)
