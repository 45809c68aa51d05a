"""The findings on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_sae.audit.findings import SEVERITIES, Audit, Finding

STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def print_audit(console: Console, audit: Audit, folder: Path) -> None:
    """The findings, the most severe first, and where everything lies.

    Args:
        console: to print to.
        audit: what was found.
        folder: of `audit.json` and `audit.html`.
    """
    if audit.findings:
        console.print(_findings(audit))
    thin = [result.name for result in audit.classes if result.verdict == "not enough evidence"]
    if thin:
        more = ", ..." * (len(thin) > 10)
        console.print(f"not enough evidence: {escape(', '.join(thin[:10]))}{more}", highlight=False)
    clip, judge = (escape(name) for name in (audit.subject.clip, audit.subject.judge))
    if audit.subject.judge_independent:
        console.print(f"audited: {clip}; judge: {judge}", highlight=False)
    else:
        console.print(
            f"the audited CLIP, {clip}, judged its own latents: a bias of its own can stay hidden",
            highlight=False,
        )
    counts = [f"{n} {s}" for s in reversed(SEVERITIES) if (n := _count(audit, s))]
    n = len(audit.findings)
    said = f"{n} finding{'s' * (n != 1)}" + f" ({', '.join(counts)})" * bool(counts)
    classes = f"{len(audit.classes)} class{'es' * (len(audit.classes) != 1)}"
    console.print(
        f"{said} in {classes}: {escape(str(folder / 'audit.html'))}",
        soft_wrap=True,
        highlight=False,
    )


def _count(audit: Audit, severity: str) -> int:
    return sum(finding.severity == severity for finding in audit.findings)


def _findings(audit: Audit) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    table.add_column()
    for finding in audit.findings:
        style = STYLES[finding.severity]
        head = f"[{style}]{finding.severity}[/] {finding.kind}: [bold]{escape(finding.class_name)}[/]"
        table.add_row(str(finding.number), "\n".join([head, escape(finding.summary), _effect(finding)]))
    return table


def _effect(finding: Finding) -> str:
    """Its share of what drives the class, and what ablation changes, on one line."""
    wrong, right = finding.effect.false_positives, finding.effect.accuracy
    changes = [f"false positives {wrong.as_it_is:.1%} -> {wrong.without:.1%}"] if wrong else []
    changes += [f"accuracy {right.as_it_is:.0%} -> {right.without:.0%}"] if right else []
    said = f"share {finding.share:.0%}" + f"; ablated: {', '.join(changes)}" * bool(changes)
    return f"[dim]{said}[/]"
