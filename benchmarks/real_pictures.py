"""The audit on real pictures with plants, against the truth: `python benchmarks/real_pictures.py --out DIR`.

Trains small CLIPs from scratch on what packages ship (fashion_pictures.py, emoji_sprites.py and
stamp_pictures.py say how to get it), clean and with plants, runs the user's own command on each, audits the
zero-shot classifier and a linear probe, and scores what is said. The pictures, CLIPs and runs that DIR holds
are not made again; the tables of figures are written there. Choices in the audit were made on the clean and
the first planted CLIP of seed 0 on Fashion-MNIST; the others are reported.
"""

import argparse
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import emoji_pictures
import emoji_sprites
import fashion_pictures
import pandas as pd
import stamp_plants
from pictured import Source
from real_goals import LEVEL, goals, ranges
from real_measures import measure
from real_runs import Case, run
from rich.console import Console
from rich.table import Table

SOURCES = ("fashion", "emoji", "stamps")
ROOT = Path(__file__).resolve().parents[1]


def cases(source: Source, editions: list[str] | None, seeds: list[int]) -> Iterator[Case]:
    """Yield all that is run on a kind of pictures."""
    for seed in seeds:
        for edition in (edition for edition in source.editions if not editions or edition in editions):
            variants = [v for v in source.variants if source.editions[edition] or v != "biased"]
            yield from (Case(edition, variant, seed) for variant in variants)
            yield Case(edition, "apart", seed, own_judge=True)


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return all rows; columns are there without any."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def report(console: Console, tables: dict[str, pd.DataFrame]) -> None:
    """Print each goal, on what was chosen by and on the rest, and how figures change with conventions."""
    for frame in (goals(tables), ranges(tables)):
        table = Table(*frame.columns)
        for row in frame.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(table)


def main() -> None:
    """Make what is missing, and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "real_pictures", help="cache")
    parser.add_argument("--data", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--editions", nargs="+", help="by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classifiers", nargs="+", default=["prompts", "probe"], help="prompts, probe")
    parser.add_argument("--levels", type=float, nargs="+", default=[LEVEL], help="of the tests of meaning")
    parser.add_argument("--renders", type=Path, help="what `npm pack` wrote; by default looked for in --out")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    out = options.out.resolve()
    renders = options.renders or out / emoji_sprites.PACKAGE
    emoji = partial(emoji_pictures.source, renders)
    sources = dict(zip(SOURCES, (fashion_pictures.source, emoji, stamp_plants.source), strict=True))
    parts: dict[str, list[pd.DataFrame]] = {}
    for source in (sources[name]() for name in options.data):
        for case in cases(source, options.editions, options.seeds):
            folder = run(source, case, out)
            own = case._replace(variant="biased", own_judge=False)
            taught = run(source, own, out) if source.editions[case.edition] else folder
            told = (False, True) if source.editions[case.edition] and case.variant == "apart" else (False,)
            for kind, level, groups in product(options.classifiers, options.levels, told):
                for name, rows in measure(source, case, folder, taught, kind, level, groups).items():
                    parts.setdefault(name, []).append(rows)
    tables = {name: joined(frames) for name, frames in parts.items()}
    for name, rows in tables.items():
        rows.to_csv(out / f"{name}.csv", index=False)
    report(Console(width=180), tables)


if __name__ == "__main__":
    main()
