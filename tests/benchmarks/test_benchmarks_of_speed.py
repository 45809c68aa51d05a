"""The short editions of the benchmarks of speed, memory and quality: that they run and what they report."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WAYS = {
    "feed": ["float32, in memory", "float16, memory-mapped", "DataLoader of single rows", "Trainer.fit"],
    "step": ["ours, exact", "ours, in fit", "dense reference, fused Adam", "floor: product"],
    "memory": ["ours, exact", "ours, screened", "dense reference"],
    "scaling": ["step, d_sae", "step, batch", "alignment, labels"],
    "quality": ["jump_relu", "lightning_sae", "below our curve"],
    "dead_latents": ["matryoshka", "with AuxK", "without AuxK"],
    "capture": ["bare model", "one core", "all cores", "loader", "embeddings there", "the limit is"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "memory" else name for name in WAYS]
)
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_steps_of_a_gpu_are_tried_on_the_cpu(monkeypatch, capsys, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["step", "--short", "--device", "cpu", "--page", str(page)])
    threads = torch.get_num_threads()
    try:
        importlib.import_module("step").main()
    finally:
        torch.set_num_threads(threads)
    for text in (capsys.readouterr().out, page.read_text()):
        assert all(
            way in text for way in ("ours, bf16-mixed", "ours, in fit", "dense, bf16 autocast", "5 % dead")
        )
        assert "nan" not in text


def test_a_point_is_compared_with_the_curve_at_its_own_l0(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    compare = importlib.import_module("quality").compare
    ours = [{"package": "lightning_sae", "variant": "topk", "l0": l0, "fvu": 1 / l0} for l0 in (4.0, 16.0)]
    better, beyond = ({"package": "other", "variant": "topk", "l0": l0, "fvu": 0.1} for l0 in (8.0, 32.0))
    compare([*ours, better, beyond])
    assert better["ratio"] == pytest.approx(0.1 * 8)  # the curve is straight in logarithms
    assert beyond["ratio"] != beyond["ratio"]
    assert ours[0]["ratio"] == pytest.approx(1.0)


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


def test_the_large_store_in_short(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["large_store", "--short", "--passes", "2"])
    threads = torch.get_num_threads()
    try:
        importlib.import_module("large_store").main()
    finally:
        torch.set_num_threads(threads)
    assert "rows per processor second" in capsys.readouterr().out
