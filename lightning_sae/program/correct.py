"""`lightning-sae correct`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Run, Trust
from lightning_sae.program.opening import open_named

Way = Literal["shift", "edit", "erase", "refit", "clamp", "ablate"]


def correct(
    run: Run,
    finding: Annotated[int, typer.Option(metavar="N", help="its number in the audit")],
    out: Annotated[Path, typer.Option(metavar="DIR", parser=user_path, help="folder to export to")],
    moved: Moved = None,
    way: Annotated[
        Way | None,
        typer.Option(
            metavar="WAY",
            help="how to correct: shift, edit, erase, refit, clamp or ablate (the best on val; none that a "
            "plain shift equals)",
        ),
    ] = None,
    factor: Annotated[
        str | None,
        typer.Option(
            metavar="GROUPS",
            help="FACTOR, FACTOR=VALUE, judge, culprits or printed: whose groups it is chosen by",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help="hold latents at this hook point alone: that of the run, or an earlier one of the finding",
        ),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(metavar="X", help="accuracy of all classes that may be lost on val")
    ] = 0.01,
    max_group_loss: Annotated[
        float, typer.Option(metavar="X", help="accuracy of the other classes that may be lost in any group")
    ] = 0.1,
    max_class_loss: Annotated[
        float,
        typer.Option(metavar="X", help="accuracy that any class may lose, with what chance may hide of it"),
    ] = 0.03,
    max_false_positive_rise: Annotated[
        float,
        typer.Option(metavar="X", help="rise of the share of all other images that are taken for the class"),
    ] = 0.0,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Correct what a finding of the audit is about: a classifier with a card.

    RUN is the folder of a finished run with an audit.json.
    """
    from rich.console import Console

    from lightning_sae.audit.audited import audited_classifier
    from lightning_sae.audit.findings import read_audit
    from lightning_sae.correct import correct as correct_finding
    from lightning_sae.correct import save_classifier
    from lightning_sae.correct.choice import Rule
    from lightning_sae.correct.folder import check_free
    from lightning_sae.correct.terminal import print_correction

    check_free(out)
    audit = read_audit(run)
    found = audit.finding(finding)
    opened = open_named(run, moved, device, trust)
    rule = Rule(max_loss, max_group_loss, max_class_loss, max_false_positive_rise)
    correction = correct_finding(opened, audited_classifier(opened, audit), found, way, factor, rule, at)
    save_classifier(correction, out)
    print_correction(Console(), correction.record, out)
