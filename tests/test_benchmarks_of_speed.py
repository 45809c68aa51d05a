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


def test_the_large_store_in_short(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["large_store", "--short", "--passes", "2"])
    threads = torch.get_num_threads()
    try:
        importlib.import_module("large_store").main()
    finally:
        torch.set_num_threads(threads)
    assert "rows per processor second" in capsys.readouterr().out
