"""How a monitor stands, on the terminal."""

from pathlib import Path

from rich.console import Console

from lightning_sae.monitoring.alarms import MonitorRecord
from lightning_sae.monitoring.page import FILE, sentence
from lightning_sae.monitoring.reference import Reference
from lightning_sae.trust.control_characters import escape


def print_record(console: Console, record: MonitorRecord, folder: Path) -> None:
    """Print the alarms that stand, and where everything lies."""
    for alarm in record.standing:
        console.print(f"[bold red]{alarm.family}[/] {escape(alarm.sentence)}", highlight=False)
    console.print(f"{sentence(record)} {escape(str(folder / FILE))}", soft_wrap=True, highlight=False)


def print_reference(console: Console, reference: Reference, folder: Path) -> None:
    """Print what a monitor will watch."""
    facts, n = reference.facts, reference.whole.n
    culprits = len({j for latents in facts.culprits.values() for j in latents})
    told = f"{culprits} culprits of the audit" if facts.audited else "no audit, so no culprits"
    console.print(
        f"reference: {n:,} images ({escape(facts.images)}), {reference.tests.d_sae:,} latents, {told}; any "
        f"alarm without a change: at most {facts.alpha:.0%}",
        highlight=False,
    )
    if facts.attribute_every > 1:
        console.print(
            f"one image in {facts.attribute_every} is attributed: it takes a pass back through later blocks",
            highlight=False,
        )
    console.print(f"lightning-sae monitor watch {escape(str(folder))} --images FOLDER", soft_wrap=True)
