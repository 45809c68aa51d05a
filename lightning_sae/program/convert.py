"""`lightning-sae sae convert`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightning_sae.home import make_importable

Ours = Literal["lightning_sae", "saelens"]
Theirs = Literal["lightning_sae", "saelens", "sparsify", "dictionary_learning", "attributing_clip"]


def convert(
    src: Annotated[str, typer.Argument(metavar="SRC", help="folder, or checkpoint of the paper's code")],
    dst: Annotated[str, typer.Argument(metavar="DST", help="new folder")],
    to: Annotated[Ours, typer.Option(metavar="FORMAT", help="format to write: lightning_sae or saelens")],
    source: Annotated[
        Theirs | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help="format of SRC, if its files do not tell: lightning_sae, saelens, sparsify, "
            "dictionary_learning or attributing_clip",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--k", metavar="N", help="active latents per token, if a checkpoint does not say it"),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="your own module, which defines the variant; again for others"),
    ] = None,
) -> None:
    """Convert an autoencoder between this library's folder and those of others."""
    from lightning_sae.sae.exchange import convert as convert_folder
    from lightning_sae.trust.control_characters import visible
    from lightning_sae.trust.targets import import_parts

    if trust:
        make_importable(None, Path.cwd())
        import_parts(trust)
    print(visible(convert_folder(src, dst, to, source, k)))
