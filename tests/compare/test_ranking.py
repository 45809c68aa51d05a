"""The end of a sweep: which job is best, which no other beats, which failed and why, and how to go on."""

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from lightning_sae.compare.__main__ import main
from lightning_sae.compare.ranking import SHOWN, compare_command, print_ranking, rank_jobs
from lightning_sae.compare.runs import read_runs
from lightning_sae.compare.sweep_end import SweepRanking
from lightning_sae.tracking.values import Goal

from .conftest import write_run

VALUES = {  # FVU and named latents of each job; 1 and 3 are the front, 2 is beaten by 1
    1: (0.1, 20),
    2: (0.2, 10),
    3: (0.3, 40),
}


def write_failed(folder, message="ValueError: k must be in 1..d_sae=64, got 65"):
    write_run(folder, overrides=["sae.k=65"])
    for name in ("metrics.csv", "latents.csv", "sae/cfg.json"):
        (folder / name).unlink()
    (folder / "error.txt").write_text(f"Traceback (most recent call last):\n  ...\n{message}\n")


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    for job, (fvu, named) in VALUES.items():
        config = {"sae": {"k": 2**job}}
        write_run(folder / str(job), {"val/fvu": fvu, "alignment/named": named}, config)
    write_failed(folder / "0")
    (folder / "4").mkdir()  # is not begun
    (folder / "multirun.yaml").write_text("hydra: {}\n")
    return folder


def printed(folder, *goals):
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as said:
        print_ranking(console, rank_jobs(folder, *goals), folder)
    return said.get()


def test_what_stands_at_the_end_of_a_sweep(sweep):
    lines = printed(sweep).strip().splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[5:] == [
        "Best by val/fvu: job 1 (0.1000) sae.k=2",
        "* no other is better in both val/fvu and alignment/named: job 1, 3",
        "2 of 5 jobs did not finish:",
        "  0: failed: ValueError: k must be in 1..d_sae=64, got 65",
        "  4: missing .hydra/config.yaml: the job never started",
        "All of them, with pictures and what they share:",
        f"  lightning-sae compare {sweep} --pareto val/fvu alignment/named",
    ]


def test_the_command_that_is_told_says_the_same(sweep, capsys):
    ranking = rank_jobs(sweep)
    main(compare_command(ranking, sweep).split()[2:])
    said = capsys.readouterr().out
    assert "no run is better in both val/fvu and alignment/named" in said
    assert "3 of 5 runs finished" in said
    assert "unfinished: 0: failed: ValueError: k must be in 1..d_sae=64, got 65" in said


def test_what_the_sweep_optimises_counts(sweep):
    ranking = rank_jobs(sweep, ["alignment/named"], ["maximize"])
    assert ranking.table.frame.index[0] == "3"
    assert ranking.goal == Goal("alignment/named", "max")
    assert compare_command(ranking, sweep).endswith("--sort alignment/named --pareto val/fvu alignment/named")
    both = rank_jobs(sweep, ["val/fvu", "alignment/named"], ["minimize", "minimize"])  # the other way
    assert both.front == ["1", "2"]
    assert compare_command(both, sweep).endswith("--pareto val/fvu alignment/named:min")


def test_what_nobody_logged_ranks_nothing(tmp_path):
    write_run(tmp_path / "0")
    ranking = rank_jobs(tmp_path, ["attribution/bias"])
    assert (ranking.goal.key, [one.key for one in ranking.trade_off]) == ("val/fvu", ["val/l0", "val/fvu"])
    assert compare_command(ranking, tmp_path).endswith(f"compare {tmp_path}")


def test_a_sweep_that_failed_as_a_whole_says_why(tmp_path):
    for job in range(SHOWN + 3):
        write_failed(tmp_path / str(job), "OSError: [red]no\x1b disk")
    said = printed(tmp_path)
    assert said.count("failed: OSError: [red]no\\x1b disk") == SHOWN
    assert "and 3 more" in said
    assert "lightning-sae compare" not in said


def test_a_job_that_was_run_again_is_no_failed_one(sweep):
    (sweep / "0" / "error.txt").unlink()
    assert next(run.why for run in read_runs([sweep]) if not run.finished).startswith("missing metrics.csv;")


def test_hydra_calls_it(sweep, capsys):
    settings = {"sweep": {"dir": str(sweep)}, "sweeper": {"direction": ["minimize", "maximize"]}}
    config = OmegaConf.create({"optimized_metric": ["val/fvu", "alignment/named"], "hydra": settings})
    SweepRanking().on_multirun_end(config)
    assert "job 1, 3" in capsys.readouterr().out
    config = OmegaConf.create({"optimized_metric": "val/fvu", "hydra": {**settings, "sweeper": {}}})
    SweepRanking().on_multirun_end(config)
    assert "Best by val/fvu: job 1" in capsys.readouterr().out
