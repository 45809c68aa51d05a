"""Peak memory of a training step, ours and everybody's: `python benchmarks/memory.py`.

Each contender is a process of its own. Counted is the largest resident memory of three steps above what is
resident before the first one, with the parameters and the batch already there: gradients, the state of the
optimiser and whatever else a step makes. The contenders are those of `step.py`. Linux only.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from interleaved import machine, save_bars
from peers import PEERS
from rich.console import Console
from rich.table import Table
from step import OURS, SCREENED, our_step

D_IN, D_SAE, K, BATCH = 768, 24576, 64, 4096
SELECTIONS = {OURS: "exact", SCREENED: "screened"}
STEPS = 3


def resident(field: str) -> int:
    """Return `VmRSS` or `VmHWM` of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def peak(name: str, d_in: int, d_sae: int, k: int, batch: int) -> int:
    """Return the bytes of one contender, in a process that does nothing else."""
    torch.manual_seed(0)
    x = torch.randn(batch, d_in)
    ours = name in SELECTIONS
    step = our_step(d_in, d_sae, k, SELECTIONS[name]) if ours else PEERS[name](d_in, d_sae, k, False)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the high-water mark starts anew
    before = resident("VmRSS")
    for _ in range(STEPS):
        step(x)
    return resident("VmHWM") - before


def measure(name: str, sizes: list[int]) -> int | str:
    """Return the bytes, or why there are none."""
    command = [sys.executable, __file__, "--contender", name, "--sizes", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def report(console: Console, found: dict[str, int | str]) -> dict[str, float]:
    """Print the table and the goal; gigabytes by name."""
    gigabytes = {name: value / 1e9 for name, value in found.items() if isinstance(value, int)}
    table = Table("", "GB above the parameters")
    for name, value in sorted(gigabytes.items(), key=lambda item: item[1]):
        table.add_row(name, f"{value:.2f}")
    console.print(table, *(f"without {n}: {why}" for n, why in found.items() if isinstance(why, str)))
    peers = {n: v for n, v in gigabytes.items() if n in PEERS and not n.startswith("dense")}
    if peers:
        leanest = min(peers, key=peers.__getitem__)
        share = gigabytes[OURS] / peers[leanest]
        console.print(f"ours, exact: {share:.2f} of {leanest}, the leanest peer (goal 0.50)")
    return gigabytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small, for a check that it runs")
    parser.add_argument("--picture", type=Path, help="where a picture of the gigabytes goes")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(peak(options.contender, *options.sizes))
        return
    sizes = [32, 256, 4, 64] if options.short else [D_IN, D_SAE, K, BATCH]
    console = Console(width=110)
    console.print(f"{machine()}; d_in {sizes[0]}, d_sae {sizes[1]}, k {sizes[2]}, batch {sizes[3]}")
    gigabytes = report(console, {name: measure(name, sizes) for name in [*SELECTIONS, *PEERS]})
    if options.picture:
        save_bars(options.picture, "GB above the parameters", gigabytes, fmt="{:.2f}")


if __name__ == "__main__":
    main()
