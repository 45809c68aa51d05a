"""The findings on the terminal."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_sae.audit.findings import SEVERITIES, Audit

STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def print_audit(console: Console, audit: Audit, folder: Path) -> None:
    """The findings, the most severe first, and where everything lies.

    Args:
        console: to print to.
        audit: what was found.
        folder: of `audit.json` and `audit.html`.
    """
    if audit.findings:
        console.print(_table(audit))
    thin = [result.name for result in audit.classes if result.verdict == "not enough evidence"]
    if thin:
        more = ", ..." * (len(thin) > 10)
        console.print(f"not enough evidence: {escape(', '.join(thin[:10]))}{more}", highlight=False)
    if not audit.subject.judge_independent:
        console.print("the audited CLIP judged its own latents: a bias of its own can stay hidden")
    counts = [f"{n} {s}" for s in reversed(SEVERITIES) if (n := _count(audit, s))]
    n = len(audit.findings)
    said = f"{n} finding{'s' * (n != 1)}" + f" ({', '.join(counts)})" * bool(counts)
    console.print(
        f"{said} in {len(audit.classes)} classes: {escape(str(folder / 'audit.html'))}",
        soft_wrap=True,
        highlight=False,
    )


def _count(audit: Audit, severity: str) -> int:
    return sum(finding.severity == severity for finding in audit.findings)


def _table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("", justify="right")
    for name in ("severity", "kind", "class"):
        table.add_column(name, no_wrap=True)
    table.add_column("share", justify="right")
    table.add_column("what was found")
    for finding in audit.findings:
        style = STYLES[finding.severity]
        table.add_row(
            str(finding.number),
            f"[{style}]{finding.severity}[/{style}]",
            finding.kind,
            escape(finding.class_name),
            f"{finding.share:.0%}",
            escape(finding.summary),
        )
    return table
