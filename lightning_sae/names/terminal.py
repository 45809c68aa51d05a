"""Proposals of names on the terminal, and names that were carried over."""

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from lightning_sae.names.carry import Carried
from lightning_sae.trust.control_characters import escape

ROWS = 20  # groups of latents in the table


def print_proposals(console: Console, found: pd.DataFrame, asked: int, path: Path) -> None:
    """Print the best proposal of each group of near copies, the largest groups first.

    Args:
        console: to print on.
        found: of `propose_names`.
        asked: number of latents for which names were looked for.
        path: path of the file with all proposals.
    """
    if len(found):
        console.print(proposal_table(found))
    n = found["latent"].nunique() if len(found) else 0
    console.print(f"names are proposed for {n} of {asked} latents", highlight=False)
    console.print(f"all of them, with the evidence: {escape(str(path))}", soft_wrap=True, highlight=False)


def proposal_table(found: pd.DataFrame) -> Table:
    """Return a table with a row per group; a latent without a group has a row of its own."""
    table = Table("latent", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("proposed", overflow="fold")
    table.add_column("from")
    table.add_column("validity", justify="right")
    table.add_column("label", overflow="fold", style="dim")
    table.add_column("its\nvalidity", justify="right")
    table.add_column("copies", justify="right")
    for rows in _groups(found)[:ROWS]:
        best = rows.iloc[0]
        table.add_row(
            str(best["latent"]),
            escape(str(best["name"])),
            escape(str(best["source"])),
            _two(best["validity"]),
            escape(str(best["vocabulary_label"])),
            _two(best["vocabulary_validity"]),
            str(rows["latent"].nunique()),
        )
    return table


def print_carried(console: Console, found: Carried, path: Path) -> None:
    """Print which names found their latent, and which did not."""
    for new, name in sorted(found.names.items()):
        console.print(f"latent {new}: {escape(name)} (there latent {found.origin[new]})", highlight=False)
    for old, name in sorted(found.lost.items()):
        console.print(f"nothing here is latent {old} of that run, {escape(name)}", highlight=False)
    console.print(
        f"{len(found.names)} of {len(found.names) + len(found.lost)} names carried over, by {found.by}: "
        f"{escape(str(path))}",
        soft_wrap=True,
        highlight=False,
    )


def _groups(found: pd.DataFrame) -> list[pd.DataFrame]:
    key = found["group"].where(found["group"] >= 0, -1 - found["latent"])
    groups = [rows for _, rows in found.groupby(key, sort=False)]
    return sorted(groups, key=lambda rows: -rows["latent"].nunique())


def _two(number: float) -> str:
    return "" if pd.isna(number) else f"{number:.2f}"
