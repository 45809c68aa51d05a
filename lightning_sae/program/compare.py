"""`lightning-sae compare`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR", parser=user_path, help="run folders, or folders of them"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=user_path, help="where the files go (compare/ beside the runs)"),
    ] = None,
    sort: Annotated[str, typer.Option(metavar="KEY", help="what is best by, KEY:min, KEY:max")] = "val/fvu",
    pareto: Annotated[tuple[str, str], typer.Option(metavar="KEY KEY", help="two of them")] = (
        "val/l0",
        "val/fvu",
    ),
    by: Annotated[
        str,
        typer.Option(metavar="PART", help="what makes a variant: a key or group of the config, or run"),
    ] = "clip",
) -> None:
    """Compare finished runs, from their folders alone.

    No tracker, no CLIP, no data.
    """
    from rich.console import Console

    from lightning_sae.compare import compare as compare_runs
    from lightning_sae.compare import write
    from lightning_sae.compare.runs import common_folder
    from lightning_sae.compare.terminal import print_comparison
    from lightning_sae.tracking.values import goal

    trade_off = (goal(pareto[0]), goal(pareto[1]))
    found = compare_runs(folders, goal(sort), trade_off, by)
    place = out or common_folder([run.folder for run in found.runs]) / "compare"
    print_comparison(Console(), found, place, write(found, place))
