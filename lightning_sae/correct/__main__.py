"""The way out of a finding: a corrected classifier, exported with a card.

`python -m lightning_sae.correct RUN --finding 1 --out DIR`
"""

import argparse
from collections.abc import Sequence

from rich import box, markup
from rich.console import Console
from rich.table import Table

from lightning_sae.audit.audited import audited_classifier
from lightning_sae.audit.findings import read_audit
from lightning_sae.correct import WAYS, Record, correct, save_classifier
from lightning_sae.correct.card import change, percent, price
from lightning_sae.correct.choice import Rule
from lightning_sae.correct.folder import check_free
from lightning_sae.correct.record import BeforeAfter
from lightning_sae.errors import one_line_errors
from lightning_sae.files import user_path
from lightning_sae.runs.command import command_on_a_run, open_named
from lightning_sae.trust.control_characters import escape, visible


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, measure and export; what the user can mend ends in one message."""
    parser = command_on_a_run("correct", __doc__, "folder of a finished run with an audit.json")
    parser.add_argument("--finding", type=int, required=True, help="its number in the audit")
    parser.add_argument("--out", type=user_path, required=True, help="folder to export to")
    parser.add_argument(
        "--way", choices=WAYS, help="how to correct (the best on val; none that a plain shift equals)"
    )
    parser.add_argument(
        "--factor", help="FACTOR, FACTOR=VALUE, judge, culprits or printed: whose groups it is chosen by"
    )
    for name, meaning in {
        "max-loss": "accuracy of all classes that may be lost on val",
        "max-group-loss": "accuracy of the other classes that may be lost in any group",
        "max-class-loss": "accuracy that any class may lose, with what chance may hide of it",
        "max-false-positive-rise": "rise of the share of all other images that are taken for the class",
    }.items():
        usual = Rule._field_defaults[name.replace("-", "_")]
        parser.add_argument(f"--{name}", type=float, default=usual, help=f"{meaning} ({usual})")
    options = parser.parse_intermixed_args(arguments)
    with one_line_errors():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    check_free(options.out)
    audit = read_audit(options.run)
    finding = audit.finding(options.finding)
    run = open_named(options)
    classifier = audited_classifier(run, audit)
    rule = Rule(**{name: getattr(options, name) for name in Rule().limits})
    correction = correct(run, classifier, finding, options.way, options.factor, rule)
    save_classifier(correction, options.out)
    record, console = correction.record, Console()
    console.print(group_table(record))
    where = f"The corrected classifier lies in [bold]{escape(str(options.out))}[/bold]"
    console.print(f"{markup.escape(headline(record))}\n{where}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
