"""Compares finished runs, from their folders alone: no tracker, no CLIP, no data.

`python -m lightning_sae.compare multirun/DATE/TIME`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lightning_sae.compare.comparison import Comparison, compare
from lightning_sae.compare.files import write
from lightning_sae.compare.runs import common_folder
from lightning_sae.compare.table import terminal
from lightning_sae.errors import one_line_errors
from lightning_sae.files import user_path
from lightning_sae.tracking.values import goal
from lightning_sae.trust.control_characters import escape


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the files; what the user can mend ends in one message."""
    parser = argparse.ArgumentParser(prog="python -m lightning_sae.compare", description=__doc__)
    parser.add_argument(
        "folders", nargs="+", type=user_path, metavar="DIR", help="run folders, or folders of them"
    )
    parser.add_argument("--out", type=user_path, help="where the files go (compare/ beside the runs)")
    parser.add_argument(
        "--sort", default="val/fvu", metavar="KEY", help="what is best by, KEY:min, KEY:max (val/fvu)"
    )
    parser.add_argument(
        "--pareto", nargs=2, default=["val/l0", "val/fvu"], metavar="KEY", help="two of them (val/l0 val/fvu)"
    )
    parser.add_argument(
        "--by",
        default="clip",
        metavar="PART",
        help="what makes a variant: a key or group of the config, or run (clip)",
    )
    options = parser.parse_args(arguments)
    with one_line_errors():
        trade_off = (goal(options.pareto[0]), goal(options.pareto[1]))
        found = compare(options.folders, goal(options.sort), trade_off, options.by)
        out = options.out or common_folder([run.folder for run in found.runs]) / "compare"
        _print(found, out, write(found, out))


def _print(found: Comparison, out: Path, files: Sequence[str]) -> None:
    console = Console()
    console.print(terminal(found.table, found.goal, found.front))
    console.print(f"* no run is better in both {escape(found.trade_off_words)}", style="dim")
    for run in found.unfinished:
        text = f"unfinished: {run.name}: missing {'; '.join(run.missing)}"
        console.print(escape(text), style="yellow", soft_wrap=True)
    for problem in found.concepts.problems if len(found.variants) > 1 else []:
        console.print(escape(problem), style="yellow", soft_wrap=True)
    done = len(found.runs) - len(found.unfinished)
    counts = f"{done} of {len(found.runs)} runs finished, {len(found.variants)} variants"
    console.print(f"{counts}; {', '.join(files)} lie in [bold]{escape(str(out))}[/bold]", soft_wrap=True)


if __name__ == "__main__":
    main()
