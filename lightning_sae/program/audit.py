"""`lightning-sae audit`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Output, Run, Trust
from lightning_sae.program.opening import open_named

FOUND = 3  # exit status where --fail-on is met; 1 is an error, 2 a wrong argument

Severity = Literal["low", "medium", "high"]


def audit(
    run: Run,
    moved: Moved = None,
    classifier: Annotated[
        str,
        typer.Option(
            metavar="prompts|probe|DIR",
            help="under audit: zero-shot prompts, a linear probe fitted now, or a saved one",
        ),
    ] = "prompts",
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON or YAML, {class: \\[prompt, ...]}, of any classes"),
    ] = None,
    output: Output = "margin",
    min_images: Annotated[int, typer.Option(metavar="N", help="fewer are not enough evidence")] = 20,
    stability: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            parser=user_path,
            help="audited runs of other seeds, or the folder of a multirun; again for others",
        ),
    ] = None,
    fail_on: Annotated[
        Severity | None,
        typer.Option(
            metavar="low|medium|high", help=f"exit status {FOUND} where a finding is at least this severe"
        ),
    ] = None,
    in_seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="--fail-on only where a finding is in so many seeds"),
    ] = None,
    edits: Annotated[
        bool,
        typer.Option(
            "--edits", help="edit images to show findings: tints, patches, the words of their classes"
        ),
    ] = False,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            parser=user_path,
            help="finished run of the same CLIP at an earlier hook point, to say where culprits come from; "
            "again for others",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=user_path, help="folder to write to (RUN)"),
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Audit the classifier of a run: what does it rely on that nobody intended?

    Writes `audit.json` and `audit.html`, and prints the findings.
    """
    from rich.console import Console

    from lightning_sae.audit.audit import audit_to_folder
    from lightning_sae.audit.evidence.cues import Limits
    from lightning_sae.audit.examination import Options
    from lightning_sae.audit.seeds import read_other_seeds
    from lightning_sae.audit.terminal import print_audit

    if in_seeds is not None and not (stability and fail_on):
        raise ValueError("--in-seeds N says how many seeds --fail-on takes: name both it and --stability DIR")
    others = read_other_seeds(run, stability) if stability else None
    if in_seeds and others and in_seeds > len(others.audits):
        raise ValueError(f"--in-seeds {in_seeds}: there are {len(others.audits)} seeds, this run counted")
    opened = open_named(run, moved, device, trust)
    folder = out or opened.folder
    limits = Limits(min_images=min_images)
    options = Options(output, limits, edits=edits, earlier=earlier or ())
    found = audit_to_folder(opened, folder, classifier, prompts, options, others)
    print_audit(Console(), found, folder)
    if fail_on and found.at_least(fail_on, in_seeds or 1):
        raise typer.Exit(FOUND)
