"""The audit on real pictures with plants, against the truth: `python benchmarks/real_pictures.py --out DIR`.

Trains small CLIPs from scratch on what packages ship (fashion_pictures.py, emoji_pictures.py say how to get
it), clean and with plants, runs the user's own command on each, audits the zero-shot classifier and a linear
probe, and scores what is said. Whatever DIR holds already is not made again; the tables of figures are
written there. Choices in the audit were made on the clean and the first planted CLIPs of seed 0 on
Fashion-MNIST; the others are reported.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import emoji_pictures
import emoji_sprites
import fashion_pictures
import pandas as pd
from pictured import Source
from real_goals import goals, ranges
from real_measures import measure
from real_runs import Case, run
from rich.console import Console
from rich.table import Table

from lightning_sae.audit.examined import Options

ROOT = Path(__file__).resolve().parents[1]


def cases(source: Source, editions: list[str] | None, seeds: list[int]) -> Iterator[Case]:
    """All that is run on a kind of pictures."""
    for seed in seeds:
        for edition in editions or source.editions:
            variants = [v for v in source.variants if source.editions[edition] or v != "biased"]
            yield from (Case(edition, variant, seed) for variant in variants)
            yield Case(edition, "apart", seed, own_judge=True)


def report(console: Console, tables: dict[str, pd.DataFrame]) -> None:
    """Prints each goal, on what was chosen by and on the rest, and how figures change with conventions."""
    for frame in (goals(tables), ranges(tables)):
        table = Table(*frame.columns)
        for row in frame.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(table)


def main() -> None:
    """Makes what is missing, and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "real_pictures", help="cache")
    parser.add_argument("--data", nargs="+", choices=("fashion", "emoji"), default=["fashion", "emoji"])
    parser.add_argument("--editions", nargs="+", help="by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classifiers", nargs="+", default=["prompts", "probe"], help="prompts, probe")
    parser.add_argument("--renders", type=Path, help="what `npm pack` wrote; by default looked for in --out")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    out = options.out.resolve()
    renders = options.renders or out / emoji_sprites.PACKAGE
    sources = {"fashion": fashion_pictures.source, "emoji": lambda: emoji_pictures.source(renders)}
    parts: dict[str, list[pd.DataFrame]] = {}
    for source in (sources[name]() for name in options.data):
        for case in cases(source, options.editions, options.seeds):
            folder = run(source, case, out)
            for kind in options.classifiers:
                for name, rows in measure(source, case, folder, kind, Options()).items():
                    parts.setdefault(name, []).append(rows)
    tables = {name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}
    for name, rows in tables.items():
        rows.to_csv(out / f"{name}.csv", index=False)
    report(Console(width=180), tables)


if __name__ == "__main__":
    main()
