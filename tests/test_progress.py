"""Progress in a log file and beside other jobs: plain lines, as many as minutes have passed."""

import sys
from itertools import count

import pytest

from lightning_sae.progress import JOB, ProgressLines, progress, shows_bars, track

SMALL = [
    *("data.n_train=256", "data.n_val=64", "data.n_test=1", "data.n_probe=24", "data.batch_size=64"),
    *("sae.d_sae=64", "module.decay_fraction=0", "trainer.accelerator=cpu", "logger=csv"),
    *("trainer.max_steps=40", "trainer.val_check_interval=20", "callbacks=[progress,save_sae]"),
]


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_a_minute_with_rate_and_time_left(capsys):
    clock = Clock()
    lines = ProgressLines("capturing", 36_000, "images", clock=clock)
    for _ in range(600):
        clock.now += 1
        lines.advance(60)
    lines.finish()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 10 + 1
    assert said[0] == "capturing: 3,600 of 36,000 images, 60 images/s, 9 min left"
    assert said[8] == "capturing: 32,400 of 36,000 images, 60 images/s, 60 s left"
    assert said[-1] == "capturing: 36,000 images in 10 min, 60 images/s"


def test_what_is_quick_is_not_worth_a_line(capsys):
    lines = ProgressLines("reading words", 5, clock=Clock())
    for _ in range(5):
        lines.advance()
    lines.finish(always=False)
    assert capsys.readouterr().out == ""


def test_a_training_that_goes_on_counts_its_own_steps_alone(capsys):
    clock = Clock()
    lines = ProgressLines("training", 1000, "steps", done=400, clock=clock)
    clock.now = 60
    lines.move(520, lambda: "train/loss 0.5")
    assert capsys.readouterr().out == "training: 520 of 1,000 steps, 2 steps/s, 4 min left, train/loss 0.5\n"


def test_nobody_knows_the_end(capsys):
    clock = Clock()
    lines = ProgressLines("training", float("inf"), "steps", clock=clock)
    clock.now = 60
    lines.move(30)
    assert capsys.readouterr().out == "training: 30 steps, 0.5 steps/s\n"


def test_a_job_among_others_says_which_it_is(monkeypatch, capsys):
    monkeypatch.setenv(JOB, "job 3")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert not shows_bars()
    with progress("capturing", 2, "images") as advance:
        advance(2)
    assert capsys.readouterr().out.startswith("job 3: capturing: 2 images in ")


def test_a_terminal_has_bars(monkeypatch):
    monkeypatch.delenv(JOB, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not shows_bars()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert shows_bars()
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_bars()


def test_what_is_tracked_comes_out_as_it_went_in(monkeypatch, capfd):
    ticks = count(0, 60)
    monkeypatch.setattr(ProgressLines.__init__, "__defaults__", ("", 0, False, lambda: next(ticks)))
    assert [*track(iter("abc"), "reading", total=3, stderr=True)] == ["a", "b", "c"]
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 3 + 1


def test_an_error_has_no_last_line(capsys):
    with pytest.raises(ValueError, match="broken"), progress("capturing", 2, "images"):
        raise ValueError("broken")
    assert capsys.readouterr().out == ""


def test_a_log_file_has_no_carriage_return(train_py, store, tmp_path, capfd):
    """The whole of a run whose output is a file, and its stream for errors too."""
    assert train_py(*SMALL, f"data.store_dir={store}", f"hydra.run.dir={tmp_path}") == 0
    said, errors = capfd.readouterr()
    assert "\r" not in said + errors
    assert "\x1b" not in said + errors
    assert said.count("training: 40 steps in ") == 1
    assert said.count("capturing ") == 3  # train, val, and val as the judge sees it
