"""`lightning-sae name`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Run, Trust
from lightning_sae.program.opening import open_named


def name(
    run: Run,
    moved: Moved = None,
    words: Annotated[
        list[str] | None,
        typer.Option(
            metavar="english|imagenet|wordnet|FILE",
            help="further words beside the run's own; a file has one a line; again for others",
        ),
    ] = None,
    latent: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=0, help="a latent to name (all that are novel); again for others"),
    ] = None,
    names_of: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=user_path,
            help="carry the names that people gave latents of another run over, and propose none",
        ),
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Propose names for latents that no label fits, each with its validity on images that did not choose it.

    Writes `proposals.csv`; the report shows them. What people write into `names.csv` is used everywhere.
    """
    from rich.console import Console

    if names_of is not None:
        if words or latent:
            raise ValueError("--names-of DIR proposes no names: leave --words and --latent out")
        from lightning_sae.compare.runs import Run as ComparedRun
        from lightning_sae.concepts.own_names import FILE as NAMES
        from lightning_sae.names.carry import carry_names
        from lightning_sae.names.terminal import print_carried

        there, here = (ComparedRun(folder, folder.name) for folder in (names_of, run))
        print_carried(Console(), carry_names(there, here), run / NAMES)
        return
    from lightning_sae.names.general import general_vocabulary
    from lightning_sae.names.proposals import FILE, propose_names, wanted_latents, write_proposals
    from lightning_sae.names.terminal import print_proposals

    opened = open_named(run, moved, device, trust)
    templates = opened.vocabulary().templates
    more = [(Path(word).stem, general_vocabulary(word, templates)) for word in words or []]
    asked = wanted_latents(opened, latent or [])
    found = propose_names(opened, asked, more)
    write_proposals(opened, found)
    print_proposals(Console(), found, len(asked), opened.folder / FILE)
