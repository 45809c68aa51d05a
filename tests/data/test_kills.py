"""Thirty SIGKILLs at random moments of a capture: each resumes to the bytes of an undisturbed one."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def kill(monkeypatch, capsys, *options):
    """Runs the benchmark; what it prints."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kills_in_capture

    monkeypatch.setattr(sys, "argv", ["kills_in_capture", "--short", *options])
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as status:
            kills_in_capture.main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert not status.value.code, printed
    return printed


def test_one_kill(monkeypatch, capsys):
    assert "1 kills in " in kill(monkeypatch, capsys, "--kills", "1")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thirty_kills(monkeypatch, capsys):
    assert "30 kills in " in kill(monkeypatch, capsys, "--kills", "30")
