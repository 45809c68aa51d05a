"""`lightning-sae fit-probe`."""

from pathlib import Path
from typing import Annotated

import typer

from lightning_sae.files import user_path
from lightning_sae.program.arguments import Device, Moved, Run, Trust
from lightning_sae.program.opening import open_named


def fit_probe(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", parser=user_path, help="folder of the probe")],
    moved: Moved = None,
    inverse_l2: Annotated[float, typer.Option(metavar="X", help="weight of the data")] = 100.0,
    balanced: Annotated[bool, typer.Option("--balanced", help="all classes weigh the same")] = False,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Fit a linear probe to the train embeddings of a run, and save it.

    It is a classifier that can be audited.
    """
    from rich.console import Console

    from lightning_sae.classifiers.saved_probe import save_probe
    from lightning_sae.runs.probe import probe_of
    from lightning_sae.runs.recall import print_probe

    data = open_named(run, moved, device, trust).data
    if data.clip.reads_texts:
        raise ValueError(f"{run} is a run on texts: a probe classifies images")
    saved = probe_of(data, inverse_l2, balanced)
    save_probe(*saved, out)
    print_probe(Console(), data, saved, out)
