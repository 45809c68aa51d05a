"""Thirty times SIGKILL at random moments of the training: every run ends as the undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thirty_kills():
    """In a process of its own, which nothing has been computed in: it forks."""
    command = [sys.executable, "benchmarks/kills_in_training.py", "--kills", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 kills in " in done.stdout
