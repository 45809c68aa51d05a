"""A comparison on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_sae.compare import view
from lightning_sae.compare.comparison import Comparison
from lightning_sae.compare.table import print_table
from lightning_sae.trust.control_characters import escape


def print_comparison(console: Console, found: Comparison, out: Path, files: Sequence[str]) -> None:
    """Print the table, what is unfinished or cannot be compared, and where the files lie."""
    print_table(console, found.table, found.goal, found.front)
    console.print(f"* no run is better in both {escape(found.trade_off_words)}", style="dim")
    for variant in found.variants:
        if beside := view.beside_baselines(variant):
            console.print(escape(f"{variant.run.name}: {'; '.join(beside)}"), highlight=False, soft_wrap=True)
    for run in found.unfinished:
        text = f"unfinished: {run.name}: {run.why}"
        console.print(escape(text), style="yellow", soft_wrap=True)
    for block in view.seed_blocks(found.seeds):
        _print_seeds(console, block)
    for block in view.width_blocks(found.widths):
        said = (
            f"{linked} of {compared} latents of {run} have a parent"
            for run, linked, compared in block["runs"]
        )
        console.print(escape("; ".join(said)), highlight=False, soft_wrap=True)
    for problem in [
        *(found.concepts.problems if found.side_by_side else []),
        *found.seeds.problems,
        *found.widths.problems,
    ]:
        console.print(escape(problem), style="yellow", soft_wrap=True)
    done = len(found.runs) - len(found.unfinished)
    counts = f"{done} of {len(found.runs)} runs finished, {len(found.variants)} variants"
    console.print(f"{counts}; {', '.join(files)} lie in [bold]{escape(str(out))}[/bold]", soft_wrap=True)


def _print_seeds(console: Console, block: dict[str, Any]) -> None:
    """Print what recurs of a recipe, and its findings."""
    name = f"{block['name']}: " if block["name"] else ""
    console.print(escape(f"{name}{block['sentence']}"), highlight=False)
    for finding in block["findings"]:
        words = f"  {finding['seeds']:>14}  {finding['kind']}: {finding['class']}"
        console.print(escape(words), highlight=False, soft_wrap=True)
    if block["problem"]:
        console.print(escape(block["problem"]), style="yellow", soft_wrap=True)
