"""What the benchmarks share: ways timed in turn, as a table and a picture of speeds."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from rich.table import Table


def interleave(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each way: only what ran in turn can be compared."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def speed_table(title: str, unit: str, speeds: Mapping[str, float]) -> Table:
    """Return the speeds, and their share of the first one."""
    table = Table("", unit, "share", title=title)
    first = next(iter(speeds.values()))
    for name, speed in speeds.items():
        table.add_row(name, f"{speed:,.{1 if speed < 100 else 0}f}", f"{speed / first:.2f}")
    return table


def save_bars(path: Path, unit: str, speeds: Mapping[str, float], fmt: str = "{:,.0f}") -> None:
    """Draw speeds, or other numbers, as horizontal bars, the first on top."""
    figure, axes = plt.subplots(figsize=(7, 0.4 * len(speeds) + 0.8), layout="constrained")
    axes.bar_label(axes.barh([*speeds], [*speeds.values()]), fmt=fmt, padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def machine() -> str:
    """Return what the numbers come from."""
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return f"{threads} of {cores} cores for torch, {_processor()}, torch {torch.__version__}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
