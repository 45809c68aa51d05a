"""The findings on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from lightning_sae.audit.findings import ONE_SEED, SEVERITIES, Audit, Finding
from lightning_sae.trust.control_characters import escape

STYLES = {"high": "bold red", "medium": "yellow", "low": "dim"}


def print_audit(console: Console, audit: Audit, folder: Path) -> None:
    """Print the findings, the most severe first, and where everything lies.

    Args:
        console: to print to.
        audit: what was found.
        folder: of `audit.json` and `audit.html`.
    """
    if audit.findings:
        console.print(_findings(audit))
    for said, names in _unjudged(audit).items():
        more = ", ..." * (len(names) > 10)
        console.print(f"{said}: [bold]{escape(', '.join(names[:10]))}[/bold]{more}", highlight=False)
    clip, judge = (escape(name) for name in (audit.subject.clip, audit.subject.judge))
    if audit.subject.judge_independent:
        console.print(f"audited: {clip}; judge: {judge}", highlight=False)
    else:
        console.print(
            f"the audited CLIP, {clip}, judged its own latents: a bias of its own can stay hidden",
            highlight=False,
        )
    counts = [f"{n} {s}" for s in reversed(SEVERITIES) if (n := _count(audit, s))]
    if audit.seeds == 1:
        console.print(f"[dim]{ONE_SEED}[/]", highlight=False)
    n = len(audit.findings)
    said = f"{n} finding{'s' * (n != 1)}" + f" ({', '.join(counts)})" * bool(counts)
    classes = f"{len(audit.classes)} class{'es' * (len(audit.classes) != 1)}"
    console.print(
        f"{said} in {classes}: {escape(str(folder / 'audit.html'))}",
        soft_wrap=True,
        highlight=False,
    )


def _unjudged(audit: Audit) -> dict[str, list[str]]:
    """Return the names of the classes without a judgement, by the reason for it."""
    said: dict[str, list[str]] = {}
    for result in audit.classes:
        if result.verdict == "not enough evidence":
            said.setdefault("not enough evidence", []).append(result.name)
        elif result.verdict == "cannot be told":
            said.setdefault(f"cannot be told ({escape(result.reason)})", []).append(result.name)
    return said


def _count(audit: Audit, severity: str) -> int:
    return sum(finding.severity == severity for finding in audit.findings)


def _findings(audit: Audit) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    table.add_column()
    for finding in audit.findings:
        style = STYLES[finding.severity]
        head = f"[{style}]{finding.severity}[/] {finding.kind}: [bold]{escape(finding.class_name)}[/]"
        head += f" ({said})" if (said := audit.said_of_seeds(finding)) else ""
        lines = [head, escape(finding.summary), _effect(finding), *_on_pairs(finding), *_origins(finding)]
        table.add_row(str(finding.number), "\n".join(lines))
    return table


def _effect(finding: Finding) -> str:
    """Return its harm, and what ablation changes, on one line."""
    harm, wrong, right = finding.harm, finding.effect.false_positives, finding.effect.accuracy
    changes = [f"all false positives {wrong.as_it_is:.1%} -> {wrong.without:.1%}"] if wrong else []
    changes += [f"accuracy on the class {right.as_it_is:.0%} -> {right.without:.0%}"] if right else []
    said = f"harm {harm.value:.1%} ({harm.low:.1%} to {harm.high:.1%}) of {escape(finding.harm_of)}"
    return f"[dim]{'; ablated: '.join([said, *filter(None, [', '.join(changes)])])}[/]"


def _origins(finding: Finding) -> list[str]:
    """Return where the culprits come from, a line for each earlier hook point."""
    return [f"[dim]{escape(origin.summary)}[/]" for origin in finding.origins]


def _on_pairs(finding: Finding) -> list[str]:
    """Return what pairs of images that differ in the cue alone show, on one line; none without pairs."""
    if (found := finding.pairs) is None:
        return []
    score, carried = (f"{x.value:.1f} ({x.low:.1f} to {x.high:.1f})" for x in (found.score, found.carried))
    said = (
        f"{finding.standing}: in {found.pairs} pairs that differ in {escape(found.value)} alone the culprits "
        f"are more active with it in {found.right_way:.0%}, the margin rises by {score}; by them {carried}"
    )
    return [f"[dim]{said}[/]"]
