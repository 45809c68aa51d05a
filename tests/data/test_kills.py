"""Thirty SIGKILLs at random moments of a capture: each resumes to the bytes of an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thirty_kills():
    """In a process of its own, since it forks."""
    command = [sys.executable, "benchmarks/kills_in_capture.py", "--short", "--kills", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 kills in " in done.stdout
