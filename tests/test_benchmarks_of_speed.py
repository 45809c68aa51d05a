"""The short editions of the benchmarks of speed and memory: that they run and what they report."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WAYS = {
    "feed": ["float32, in memory", "float16, memory-mapped", "DataLoader of single rows", "Trainer.fit"],
    "step": ["ours, exact", "ours, in fit", "dense reference, fused Adam", "floor: product"],
    "memory": ["ours, exact", "ours, screened", "dense reference"],
    "scaling": ["step, d_sae", "step, batch", "alignment, labels"],
    "dead_latents": ["matryoshka", "with AuxK", "without AuxK"],
    "capture": ["bare model", "capture, workers", "capture, no workers", "embeddings there"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WAYS)
def test_short_edition(name, monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [name, "--short", "--picture", str(tmp_path / "speeds.png")])
    threads = torch.get_num_threads()
    try:
        importlib.import_module(name).main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert all(way in printed for way in WAYS[name])
    assert (tmp_path / "speeds.png").stat().st_size > 0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells the shared memory")
def test_what_several_jobs_cost(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["sharing", "--short"])
    threads = torch.get_num_threads()
    try:
        importlib.import_module("sharing").main()
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert all(way in printed for way in ("a copy each", "memory-mapped", "in one process"))
