"""`lightning-sae report` and `lightning-sae explore`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Run, Trust
from lightning_sae.program.opening import open_named


def report(
    run: Run,
    moved: Moved = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", parser=user_path, help="folder to write to (RUN)")
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Write the page of a run: curves, latents, classes, images, and what removing a latent does.

    `report.html` needs nothing beside it, no server and no network.
    """
    from rich.console import Console

    from lightning_sae.explorer import print_page, write_page

    opened = open_named(run, moved, device, trust)
    print_page(Console(), opened, write_page(opened, out or opened.folder))


def explore(
    run: Run,
    moved: Moved = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="to listen on; 0 is any that is free")
    ] = 8765,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Serve the page of a run on this machine alone, with prompts and images of your own.

    Every image of the run can be asked for, and what removing latents does is exact at any layer. Ctrl-C ends
    it.
    """
    from rich.console import Console

    from lightning_sae.explorer.server import application, listen, new_token, serve

    listening = listen(port)
    console = Console()
    token = new_token()
    app = application(open_named(run, moved, device, trust), token)
    host, chosen = listening.getsockname()
    console.print(f"http://{host}:{chosen}/{token}/", soft_wrap=True)
    console.print("shows the run, on this machine alone; Ctrl-C ends it")
    serve(app, listening)
