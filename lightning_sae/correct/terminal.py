"""A correction on the terminal."""

from pathlib import Path

from rich import box, markup
from rich.console import Console
from rich.table import Table

from lightning_sae.correct.card import change, listed, percent, price
from lightning_sae.correct.record import BeforeAfter, Record
from lightning_sae.trust.control_characters import escape, visible


def print_correction(console: Console, record: Record, folder: Path) -> None:
    """Print what it does to the groups that it was chosen by, what it costs, and where it lies."""
    console.print(group_table(record))
    where = f"The corrected classifier lies in [bold]{escape(str(folder))}[/bold]"
    console.print(f"{markup.escape(headline(record))}\n{where}", soft_wrap=True, highlight=False)


def group_table(record: Record) -> Table:
    """Return the groups of the factor by which the correction was chosen.

    The numbers are from the images on which the correction was measured.
    """
    title = f"{record.target} on {record.measured.split} by {record.factor}, before → after"
    table = Table("group", title=escape(title), box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("found", "others right", "taken for it", "error", "by a shift"):
        table.add_column(name, justify="right")
    for row in record.groups:
        if row.factor in ("", record.factor):
            shares = (row.own_accuracy, row.others_accuracy, row.false_positives, row.error)
            name, by_shift = row.value or "all images", percent(row.error.shifted)
            table.add_row(escape(name), *map(change, shares), by_shift)
    return table


def beside_shift(shares: BeforeAfter) -> str:
    """Return the percent before and after, and in brackets what nothing but a shift of the threshold reaches.

    Example:
        >>> beside_shift(BeforeAfter(before=0.336, after=0.188, shifted=0.3))
        '33.6 → 18.8 % (30.0 %)'
    """
    return f"{change(shares)} ({percent(shares.shifted)})"


def headline(record: Record) -> str:
    """Return what the correction does on images that it was not chosen on, and what it costs there."""
    found = record.measured
    on_val = record.chosen.worst
    how: str = "a plain shift of the threshold" if record.way == "shift" else record.way
    if record.held is not None and record.held.sources:
        how = f"{how} of sources at {visible(record.held.layer)}: {visible(listed(record.held))}"
    if record.way != "shift" and (on_val.after or 0.0) >= (on_val.shifted or 0.0):
        how = f"{how}, though on {record.chosen.split} a plain shift of the threshold does as well"
    shown = {
        "error of the worst group": found.worst,
        "false positives": found.false_positives,
        "accuracy": found.accuracy,
    }
    return (
        f"{visible(record.target)}: {how}; on {found.split}, before → after (by a plain shift): "
        f"{', '.join(f'{name} {beside_shift(shares)}' for name, shares in shown.items())}\n"
        f"costs: {price(record)}"
    )
